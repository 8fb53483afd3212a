from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from farandole.bundle import Bundle
from farandole.errors import BundleError
from farandole.serving.service.errors import RequestError
from farandole.serving.service.logs import JsonLog
from farandole.serving.service.metrics import Metrics
from farandole.serving.service.rows import RawRows, rows_from_json
from farandole.serving.service.settings import Deployment, RequestLimits, ServiceSettings, Variant
from farandole.serving.service.table import ExplainRequest, ModelTable, Slot
from tests.support.served import ROW, make_bundle


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "other", seed=1)


def variant(bundle: Bundle, label: str, weight: float = 1.0, **more: Any) -> Variant:
    return Variant(label, "models:/flights", str(bundle.path), f"version of {label}", weight, **more)


@asynccontextmanager
async def opened(*variants: Variant, **settings: Any) -> AsyncIterator[tuple[ModelTable, Metrics]]:
    metrics = Metrics()
    table = ModelTable(ServiceSettings(**settings), metrics, JsonLog(io.BytesIO()))
    await table.apply(Deployment(0, {"flights": variants}))
    try:
        yield table, metrics
    finally:
        await table.drain()


def rows(slot: Slot) -> RawRows:
    return rows_from_json(json.dumps({"rows": [ROW]}).encode(), slot.model.columns, RequestLimits(), "refuse")


async def ask(table: ModelTable, version: str | None = None) -> str:
    """Ask as the endpoints do, and return the digest of the version that answered."""
    slot = table.choose("flights", version)
    request = rows(slot)
    found = await slot.predictions.submit(request, 1)
    table.shadow("flights", request, slot, found)
    return slot.model.digest


def test_split_sends_each_version_its_share_and_a_named_version_is_obeyed(bundle: Bundle, other: Bundle) -> None:
    async def run() -> tuple[Counter[str], str]:
        champion, challenger = variant(bundle, "champion", 0.75), variant(other, "challenger", 0.25)
        async with opened(champion, challenger) as (table, _):
            return Counter([await ask(table) for _ in range(400)]), await ask(table, "challenger")

    counts, named = asyncio.run(run())
    assert counts[bundle.digest] + counts[other.digest] == 400
    assert 50 < counts[other.digest] < 150  # 5.8 standard deviations
    assert named == other.digest


@pytest.mark.parametrize("compute_in", ["thread", "loop"])
def test_shadow_answers_nothing_and_its_agreement_is_counted(bundle: Bundle, other: Bundle, compute_in: str) -> None:
    async def run() -> tuple[set[str], bytes]:
        shadow = variant(other, "shadow", 0.0, is_shadow=True)
        async with opened(variant(bundle, "champion"), shadow, compute_in=compute_in) as (table, metrics):
            digests = {await ask(table) for _ in range(20)}
            await table.slots("flights")[1].predictions.drain()
            await asyncio.sleep(0)
            return digests, metrics.render()

    digests, text = asyncio.run(run())
    assert digests == {bundle.digest}
    counted = [line for line in text.decode().splitlines() if line.startswith("farandole_shadow_rows_total")]
    assert sum(float(line.split()[-1]) for line in counted) == 20


def test_reload_answers_what_the_old_version_has_accepted(bundle: Bundle, other: Bundle) -> None:
    async def run() -> list[str]:
        async with opened(variant(bundle, "champion"), compute_in="thread") as (table, _):
            digests: list[str] = []

            async def load() -> None:
                while table.generation < 1 or digests[-1] != other.digest:
                    digests.append(await ask(table))

            loading = asyncio.create_task(load())
            await table.reload(Deployment(1, {"flights": (variant(other, "champion"),)}))
            await loading
            return digests

    digests = asyncio.run(run())
    assert (digests[0], digests[-1]) == (bundle.digest, other.digest)
    assert digests == sorted(digests, key=lambda digest: digest == other.digest)


def test_bundle_that_cannot_be_loaded_leaves_the_old_version(bundle: Bundle, tmp_path: Path) -> None:
    async def run() -> tuple[str, bytes]:
        async with opened(variant(bundle, "champion")) as (table, metrics):
            missing = Variant("champion", "x", str(tmp_path / "missing"), "2", 1.0)
            with pytest.raises(BundleError):
                await table.apply(Deployment(1, {"flights": (missing,)}))
            await table.reload(Deployment(1, {"flights": (missing,)}))
            return await ask(table), metrics.render()

    digest, text = asyncio.run(run())
    assert digest == bundle.digest
    assert b'farandole_reloads_total{result="failed"} 1.0' in text


def test_unknown_models_and_versions_are_not_found(bundle: Bundle) -> None:
    async def run() -> None:
        async with opened(variant(bundle, "champion")) as (table, _):
            for name, version in (("other", None), ("flights", "9")):
                with pytest.raises(RequestError) as refused:
                    table.choose(name, version)
                assert refused.value.status == 404

    asyncio.run(run())


def test_explanations_add_up_to_the_output(bundle: Bundle) -> None:
    async def run() -> Any:
        async with opened(variant(bundle, "champion")) as (table, _):
            slot = table.choose()
            good = slot.explanations.submit(ExplainRequest(rows(slot)), 1)
            wrong = slot.explanations.submit(ExplainRequest(rows(slot), "no such class"), 1)
            return await asyncio.gather(good, wrong, return_exceptions=True)

    good, wrong = asyncio.run(run())
    (found,) = good
    total = sum(found["columns"].values())
    assert total == pytest.approx(found["output"] - found["baseline_output"] + found["delta"], abs=1e-6)
    assert isinstance(wrong, RequestError)
    assert wrong.status == 422


def test_payload_log_applies_the_policies_of_the_bundle(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    lineage = {"job": {"data": {"privacy": {"columns": {"carrier": {"policy": "drop"}}}}}}
    logged = make_bundle(tmp_path / "logged", documents={"lineage.json": lineage})

    async def run() -> None:
        async with opened(variant(logged, "champion"), payload_log=str(tmp_path / "log")) as (table, _):
            await ask(table)

    asyncio.run(run())
    (path,) = (tmp_path / "log").rglob("*.parquet")
    found = pq.read_table(path, partitioning=None)
    assert found.num_rows == 1
    assert "carrier" not in found.column_names
    assert {"distance", "prediction", "probability"} <= set(found.column_names)
