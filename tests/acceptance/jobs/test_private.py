"""From personal rows to a trained model: no file holds a value of them or a key, and the shards are encrypted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

import farandole
from farandole.cli.main import app
from farandole.errors import DatasetError
from farandole.events import Event
from farandole.shards import Dataset, read_manifest, verify
from farandole.spec import Job, load_job
from tests.support.made_data import empty_store, home
from tests.support.people import KEY, KEY_VARIABLE, OTHER_KEY, SECRETS, people_csv, people_data, texts_below

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["empty_store", "home"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHARD_VARIABLE = "FARANDOLE_TEST_SHARD_KEY"


@pytest.fixture
def make_job(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Make jobs over personal rows, with encrypted shards and two workers."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv(SHARD_VARIABLE, OTHER_KEY)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "people.csv").write_text(people_csv())

    def make(**data: Any) -> Job:
        shards = {"encryption": {"key": {"environment": SHARD_VARIABLE, "id": "spring"}}, "block_mib": 0.002}
        raw = {
            "name": "people",
            "data": people_data(output=str(tmp_path / "dataset"), shards=shards, **data),
            "model": {"builder": "farandole.models.mlp:build", "options": {"hidden": [8]}},
            "train": {"epochs": 2, "global_batch_size": 16},
            "resources": {"workers": 2, "cpus": 1},
            "tracking": {"system_metrics": False},
        }
        path = folder / "job.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return load_job(path)

    return make


def test_a_private_job_leaks_nothing_from_raw_rows_to_the_logged_model(
    make_job: Callable[..., Job], spark: SparkSession, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    first = farandole.prepare(make_job(partitions=1), events.append)
    shards = {name: content for name, content in texts_below(Path(first.path)).items() if name.endswith(".arrow")}
    again = farandole.prepare(make_job(partitions=3), events.append, force=True)
    assert again.manifest.digest == first.manifest.digest
    assert {
        name: content for name, content in texts_below(Path(first.path)).items() if name.endswith(".arrow")
    } == shards
    assert not any(b"ARROW1" in content for content in shards.values())
    assert verify(first.path) == []

    trained = farandole.train(make_job(), events.append)
    assert trained.training.workers == 2
    assert trained.training.steps > 4

    shown = CliRunner().invoke(app, ["data", "head", str(first.path), "--json"], catch_exceptions=False)
    inspected = CliRunner().invoke(app, ["data", "inspect", str(first.path)], catch_exceptions=False)
    assert shown.exit_code == inspected.exit_code == 0
    assert "AES-256-GCM" in inspected.stdout

    # Scratch files of the shared Spark session are not among these: the session removes them at its end.
    files = {**texts_below(Path(first.path)), **texts_below(home)}
    for kind in ("manifest.json", "mlflow.db", "job.json", "state.pt", ".arrow"):
        assert any(name.endswith(kind) for name in files), kind
    texts = {**files, "events": repr(events).encode(), "shown": (shown.stdout + inspected.stdout).encode()}
    for secret in (*SECRETS, KEY, OTHER_KEY):
        assert not [name for name, content in texts.items() if secret.encode() in content]
    for key in (KEY, OTHER_KEY):
        assert not [name for name, content in texts.items() if bytes.fromhex(key) in content]

    monkeypatch.delenv(SHARD_VARIABLE)
    message = (
        rf"encrypted with the key spring \(fingerprint \w+\), looked for in the environment variable {SHARD_VARIABLE}"
    )
    with pytest.raises(DatasetError, match=message):
        farandole.train(make_job())
    with pytest.raises(DatasetError, match=message):
        Dataset(first.path).split("train")
    assert verify(first.path) == []

    monkeypatch.setenv(SHARD_VARIABLE, KEY)
    with pytest.raises(DatasetError, match="holds another one"):
        farandole.train(make_job())

    # A job that requires more than the dataset has is refused, also by a machine without the raw rows.
    os.rename(tmp_path / "folder" / "people.csv", tmp_path / "folder" / "gone.csv")
    columns = {**read_manifest(first.path).privacy["columns"], "city": {"policy": "mask"}}
    with pytest.raises(DatasetError, match=r"data\.privacy\.columns\.city: the job requires mask"):
        farandole.train(make_job(privacy={"columns": columns, "key": {"environment": KEY_VARIABLE}}))
