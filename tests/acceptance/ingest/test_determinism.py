from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from farandole.ingest.sources.files import find_files
from farandole.ingest.spark import session as session_module
from farandole.ingest.spark.dataframes import needed_columns, query_frame
from farandole.ingest.spark.row_frames import SourceReaders
from farandole.ingest.spark.session import configure_session
from farandole.preprocess import Preprocessing
from farandole.shards import read_manifest
from farandole.spec import SPLITS
from tests.support.ingest_inputs import MakeJob, Prepare, as_bytes, columns, shard_bytes, verify

MANY_SHARDS = "data.shards={size_mib: 0.1, block_mib: 0.01}"


@pytest.fixture
def scattered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use many small input splits, joins by shuffling, and small Arrow batches, so that the order of rows changes."""
    settings = {
        "spark.sql.files.maxPartitionBytes": "65536",
        "spark.sql.files.openCostInBytes": "1",
        "spark.sql.autoBroadcastJoinThreshold": "-1",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "97",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
    }
    for key, value in settings.items():
        monkeypatch.setitem(session_module.QUERY_SETTINGS, key, value)


@pytest.fixture
def shuffled(tmp_path: Path, flights_folder: Path) -> Path:
    """Write the same flights in another order."""
    header, *lines = (flights_folder / "flights.csv").read_bytes().splitlines(keepends=True)
    random.Random(4).shuffle(lines)
    path = tmp_path / "shuffled.csv"
    path.write_bytes(b"".join([header, *lines]))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("shards", ["data.shards={}", MANY_SHARDS], ids=["one shard", "many shards"])
def test_number_of_partitions_has_no_effect_on_the_bytes(
    flights_job: MakeJob, prepare: Prepare, tmp_path: Path, request: pytest.FixtureRequest, shards: str
) -> None:
    few = prepare(flights_job(shards, "data.partitions=2", output="few"))
    request.getfixturevalue("scattered")
    many = prepare(flights_job(shards, "data.partitions=7", output="many"))
    assert few.manifest == many.manifest
    assert (tmp_path / "few" / "manifest.json").read_bytes() == (tmp_path / "many" / "manifest.json").read_bytes()
    assert shard_bytes(tmp_path / "few") == shard_bytes(tmp_path / "many")
    assert len(few.manifest.splits["train"]) >= (4 if shards == MANY_SHARDS else 1)
    assert sum(few.manifest.row_counts.values()) > 3800
    verify(tmp_path / "many")


@pytest.mark.slow
def test_order_of_input_rows_has_no_effect_on_the_shards(
    flights_job: MakeJob, prepare: Prepare, tmp_path: Path, shuffled: Path
) -> None:
    sorted_by_time = prepare(flights_job(MANY_SHARDS, output="sorted"))
    mixed = prepare(flights_job(MANY_SHARDS, output="mixed", flights=shuffled))
    assert sorted_by_time.manifest.digest == mixed.manifest.digest
    assert shard_bytes(tmp_path / "sorted") == shard_bytes(tmp_path / "mixed")
    # The rest of the manifests is equal too, except the sources.
    assert differing(sorted_by_time.manifest.model_dump(), mixed.manifest.model_dump()) == {"sources", "request"}


def differing(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    return {key for key in first if first[key] != second[key]}


@pytest.mark.slow
def test_preprocessing_of_the_manifest_reproduces_the_rows_of_the_shards(
    flights_job: MakeJob, prepare: Prepare, tmp_path: Path, spark: SparkSession
) -> None:
    hashed = "data.features.tailnum={kind: categorical, encoding: hash, buckets: 64, column: route}"
    extra = "data.features.wide={kind: numeric, column: distance, scale: minmax, clip: {upper: 2000}}"
    job = flights_job(MANY_SHARDS, hashed, extra)
    prepare(job)
    manifest = read_manifest(tmp_path / "dataset")
    preprocessing = Preprocessing.from_dict(manifest.preprocessing)
    assert preprocessing.label is not None

    session = spark.newSession()
    configure_session(session, job)
    files = {name: find_files(name, source).fetch() for name, source in job.data.sources.items()}
    wanted = dict.fromkeys([*preprocessing.columns, preprocessing.label.column], "")
    rows = query_frame(session, job.data, SourceReaders(session, job.data.sources, files))
    raw = needed_columns(rows, wanted).toArrow().combine_chunks().to_batches()

    expected, found = Counter[bytes](), Counter[bytes]()
    for batch in raw:
        expected += as_bytes(manifest.columns, preprocessing.rows(batch))
    for split in SPLITS:
        found += as_bytes(manifest.columns, columns(tmp_path / "dataset", split))
    assert found == expected
    assert found.total() == sum(manifest.row_counts.values())
    assert preprocessing.schema == manifest.columns
