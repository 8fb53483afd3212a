"""Fixtures of the tests of ingestion: jobs over real flights, and over small files that a test writes."""

from __future__ import annotations

import copy
import zipfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from farandole.errors import FarandoleError
from farandole.spec import Job, load_job
from tests.support.ingest_inputs import HEADER, SMALL, MakeJob, Prepare, Refuse, Write, nycflights
from tests.support.messages import foreign_words
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FLIGHTS_JOB = ROOT / "jobs" / "flights" / "job.yaml"


@pytest.fixture(scope="session")
def flights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 4,000 real flights (every 84th of the year), the weather and the planes."""
    folder = tmp_path_factory.mktemp("flights")
    with zipfile.ZipFile(nycflights("flights.csv.zip")) as archive, archive.open("flights.csv") as lines:
        kept = [next(lines), *islice(lines, 0, None, 84)]
        (folder / "flights.csv").write_bytes(b"".join(kept[:4001]))
    (folder / "planes.csv").write_bytes(nycflights("planes.csv").read_bytes())
    (folder / "weather.csv").write_bytes(nycflights("weather.csv").read_bytes())
    return folder


@pytest.fixture
def flights_job(tmp_path: Path, flights_folder: Path) -> MakeJob:
    """Return the function that makes the flights job: `flights_job("data.partitions=2", flights="other.csv")`."""

    def make(*overrides: str, output: str = "dataset", flights: Path | None = None) -> Job:
        paths = {"flights": flights or flights_folder / "flights.csv"}
        paths |= {name: flights_folder / f"{name}.csv" for name in ("weather", "planes")}
        sources = [f"data.sources.{name}.path={path}" for name, path in paths.items()]
        return load_job(FLIGHTS_JOB, [*sources, f"data.output={tmp_path / output}", *overrides])

    return make


@pytest.fixture
def small() -> dict[str, Any]:
    """Return the raw job over `small.csv`, for a test to change."""
    return {
        "name": "small",
        "data": {
            "sources": {
                "rows": {
                    "path": "small.csv",
                    "columns": {"id": "int", "size": "double", "color": "string", "bought": "int"},
                }
            },
            "features": {"size": {"kind": "numeric"}, "color": {"kind": "categorical"}},
            "label": {"column": "bought", "kind": "binary"},
            "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
            "output": "dataset",
        },
        "model": {"builder": "farandole.models.mlp:build"},
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return the function that writes a file below `tmp_path`, by default the 60 small rows."""

    def write(name: str = "small.csv", content: str | bytes = HEADER + SMALL) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def make_job(tmp_path: Path, small: dict[str, Any]) -> MakeJob:
    """Return the function that makes the small job: `make_job({"query": "SELECT …"}, rows={"null_values": ["NA"]})`."""

    def make(data: dict[str, Any] | None = None, **sources: dict[str, Any]) -> Job:
        raw = copy.deepcopy(small)
        for name, source in sources.items():
            merged = {**raw["data"]["sources"].get(name, {}), **source}
            raw["data"]["sources"][name] = {key: value for key, value in merged.items() if value is not ...}
        raw["data"] |= data or {}
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        return load_job(path)

    return make


@pytest.fixture
def prepare(spark: SparkSession) -> Prepare:
    """Return `prepare`, which uses the shared Spark."""
    from farandole.ingest.prepare import prepare

    return cast(Prepare, prepare)


@pytest.fixture
def refuse(prepare: Prepare) -> Refuse:
    """Return the function that prepares a job that must fail, and returns an error fit for users."""

    def refuse(job: Job, *, exit_code: int = 2) -> FarandoleError:
        with pytest.raises(FarandoleError) as caught:
            prepare(job)
        error = caught.value
        assert type(error).exit_code == exit_code, str(error)
        for foreign in ("java", "at org.apache", "Traceback", "SQLSTATE", "spark.sql.", "Py4J"):
            assert foreign not in str(error)
        assert foreign_words(str(error)) == [], str(error)
        output = Path(job.data.output)
        assert not (output / "manifest.json").exists()
        assert not list(output.rglob("*.tmp"))
        return error

    return refuse
