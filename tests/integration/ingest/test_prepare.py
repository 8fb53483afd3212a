from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from farandole.errors import DataError, DatasetError
from farandole.events import Event, Message, Progress, StageEnded, StageStarted
from farandole.ingest import cache_key as cache_key_module
from farandole.ingest import prepare as prepare_module
from farandole.ingest.cache_key import compute_cache_key
from farandole.ingest.sources.files import find_files
from farandole.ingest.spark import partitioning, row_frames
from farandole.ingest.spark.row_frames import make_reader
from farandole.shards import read_manifest, write_manifest
from farandole.spec import SPLITS
from tests.support.ingest_inputs import HEADER, SMALL, MakeJob, Prepare, Write, columns, shard_bytes, verify

PARTS = "CASE WHEN id < 40 THEN 'train' WHEN id < 50 THEN 'validation' ELSE 'test' END AS part"


@pytest.fixture
def without_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: object, **_: object) -> None:
        raise AssertionError("Spark is started")

    monkeypatch.setattr(prepare_module, "spark_session", refuse)


# From files to a dataset ------------------------------------------------------------------------------------


def test_csv_becomes_a_dataset_with_every_value_as_declared(
    write: Write, make_job: MakeJob, prepare: Prepare, tmp_path: Path
) -> None:
    write()
    features = {"size": {"kind": "numeric", "scale": "none"}, "color": {"kind": "categorical"}}
    query = f"SELECT size, color, bought = 1 AS bought, {PARTS} FROM rows"
    prepared = prepare(make_job({"query": query, "features": features, "split": {"column": "part"}}))

    assert prepared.path == tmp_path / "dataset"
    assert not prepared.reused
    assert prepared.manifest == read_manifest(prepared.path)
    assert prepared.to_dict() == {
        "path": str(tmp_path / "dataset"),
        "digest": prepared.manifest.digest,
        "rows": {"train": 40, "validation": 10, "test": 10},
        "reused": False,
        "left_out": {},
    }
    verify(prepared.path)
    first = 0
    for split, rows in prepared.manifest.row_counts.items():
        found = columns(prepared.path, split)
        order = np.argsort(found["dense"][:, 0])
        numbers = np.arange(first, first + rows)
        first += rows
        assert found["dense"].dtype == np.float32
        assert found["dense"][order, 0].tolist() == (numbers * 0.5).tolist()
        # 14 training rows are `a`, and 13 each `b` and `c`: equal counts are ordered by value.
        assert found["categorical"][order, 0].tolist() == (2 + numbers % 3).tolist()
        assert found["label"][order].tolist() == (numbers % 4 == 0).astype(int).tolist()
    label = prepared.manifest.columns.label
    assert label is not None
    assert label.classes == ("false", "true")


def test_parquet_and_csv_give_the_same_shards(
    write: Write, make_job: MakeJob, prepare: Prepare, tmp_path: Path
) -> None:
    write()
    numbers = np.arange(60)
    table = pa.table(
        {
            "id": numbers.astype(np.int32),
            "size": numbers * 0.5,
            "color": [str("abc"[number % 3]) for number in numbers],
            "bought": (numbers % 4 == 0).astype(np.int32),
        }
    )
    pq.write_table(table, tmp_path / "small.parquet")
    from_csv = prepare(make_job({"output": "from-csv"}))
    parquet = {"path": "small.parquet", "format": "parquet", "columns": ["size", "color", "bought"]}
    from_parquet = prepare(make_job({"output": "from-parquet"}, rows=parquet))
    assert from_csv.manifest.digest == from_parquet.manifest.digest
    assert shard_bytes(from_csv.path) == shard_bytes(from_parquet.path)


def test_a_query_joins_several_sources(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    write()
    write("prices.csv", "color,price\na,10\nb,20\n")
    prices = {"path": "prices.csv", "columns": {"color": "string", "price": "double"}}
    query = "SELECT r.id, p.price AS size, r.bought FROM rows r LEFT JOIN prices p ON p.color = r.color"
    features = {"size": {"kind": "numeric", "scale": "none", "impute": -1.0, "indicator": True}}
    prepared = prepare(make_job({"query": query, "features": features, "split": {"by": ["id"]}}, prices=prices))
    values = np.concatenate([columns(prepared.path, split)["dense"] for split in SPLITS])
    rows, counts = np.unique(values, axis=0, return_counts=True)
    assert rows.tolist() == [[-1, 1], [10, 0], [20, 0]]
    assert counts.tolist() == [20, 20, 20]
    assert [Path(entry["path"]).name for entry in prepared.manifest.sources] == ["prices.csv", "small.csv"]


def test_wide_rows_give_the_same_shards_as_narrow_rows(
    write: Write, make_job: MakeJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    narrow = prepare(make_job())
    monkeypatch.setattr(partitioning, "MAX_NARROW_BYTES", 0)
    wide = prepare(make_job(), force=True)
    assert wide.manifest == narrow.manifest


def test_each_step_is_reported(write: Write, make_job: MakeJob, prepare: Prepare, tmp_path: Path) -> None:
    write()
    events: list[Event] = []
    prepared = prepare(make_job(), events.append)
    assert events[0] == StageStarted("prepare", f"preparing {tmp_path}/dataset")
    counts = prepared.manifest.row_counts
    shown = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    assert events[-1] == StageEnded("prepare", f"{shown} rows in 3 shards")
    steps = list(dict.fromkeys(event.text for event in events if isinstance(event, Progress)))
    assert steps == [
        "starting Spark",
        "reading the sources",
        "fitting the preprocessing on the training split",
        "writing shards",
    ]


def test_only_training_rows_are_learned_from(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    """Nothing is learned from rows 40 and up: their colors are unknown, and their sizes do not move the mean."""
    write()
    query = (
        "SELECT if(id < 40, size, size + 1e6) AS size, if(id < 40, color, if(id < 50, 'v', 't')) AS color,"
        f" bought, {PARTS} FROM rows"
    )
    manifest = (prepared := prepare(make_job({"query": query, "split": {"column": "part"}}))).manifest
    numeric, vocabulary = manifest.preprocessing["transforms"]
    assert vocabulary["vocabulary"] == ["a", "b", "c"]
    assert numeric["offset"] == np.mean(np.arange(40) * 0.5)
    assert manifest.statistics["size"]["rows"] == 40
    assert manifest.statistics["size"]["max"] == 19.5
    assert manifest.statistics["color"] == {
        "rows": 40,
        "distinct": 3,
        "most_frequent": [["a", 14], ["b", 13], ["c", 13]],
        "missing": 0,
    }
    assert set(columns(prepared.path, "train")["categorical"].ravel().tolist()) == {2, 3, 4}
    for split in ("validation", "test"):
        assert set(columns(prepared.path, split)["categorical"].ravel().tolist()) == {0}
        assert (columns(prepared.path, split)["dense"] > 1e4).all()


# Preparing again --------------------------------------------------------------------------------------------


def test_existing_dataset_is_reused_without_spark(
    write: Write, make_job: MakeJob, prepare: Prepare, request: pytest.FixtureRequest
) -> None:
    write()
    first = prepare(make_job())
    request.getfixturevalue("without_spark")
    events: list[Event] = []
    for changed in ({}, {"partitions": 5}, {"master": "local[1]"}, {"memory": "3g"}):
        again = prepare(make_job(changed), events.append)
        assert again.reused
        assert again.manifest == first.manifest
    assert [type(event) for event in events[:2]] == [StageStarted, StageEnded]
    assert "exist already, nothing has changed" in str(events[1])


def test_found_files_and_a_known_cache_key_are_not_computed_again(
    write: Write, make_job: MakeJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    job = make_job()
    files = {name: find_files(name, source) for name, source in job.data.sources.items()}
    cache_key = compute_cache_key(job.data, files, job.folder)

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(prepare_module, "find_files", refuse)
    monkeypatch.setattr(prepare_module, "compute_cache_key", refuse)
    prepared = prepare(job, files=files, cache_key=cache_key)
    assert prepared.manifest.request == cache_key
    assert prepare(job, files=files, cache_key=cache_key).reused


def test_each_source_is_opened_once(
    write: Write, make_job: MakeJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lenient source without declared types is read to infer them, once, although it is read again for its rows."""
    write()
    opened: list[str] = []

    def spy(session: Any, name: str, *arguments: Any) -> Any:
        opened.append(name)
        return make_reader(session, name, *arguments)

    monkeypatch.setattr(row_frames, "make_reader", spy)
    prepare(make_job(rows={"columns": ..., "malformed": "drop"}))
    assert opened == ["rows"]


@pytest.mark.parametrize("change", ["query", "feature", "file", "code", "force", "shard missing", "shard cut short"])
def test_changed_inputs_are_prepared_again(
    write: Write,
    make_job: MakeJob,
    prepare: Prepare,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    path = write()
    first = prepare(make_job())
    data: dict[str, Any] = {}
    if change == "query":
        data["query"] = "SELECT * FROM rows WHERE id > 0"
    elif change == "feature":
        data["features"] = {"size": {"kind": "numeric", "log": True}}
    elif change == "file":
        path.write_bytes(path.read_bytes() + b"60,1.5,a,1\n")
    elif change == "code":
        monkeypatch.setattr(cache_key_module, "code_version", lambda: {"farandole": "0"})
    elif change == "shard missing":
        (first.path / first.manifest.splits["test"][0].file).unlink()
    elif change == "shard cut short":
        shard = first.path / first.manifest.splits["test"][0].file
        content = shard.read_bytes()
        shard.unlink()
        shard.write_bytes(content[:-1])
    if change in ("code", "shard missing"):  # the cache key alone shows the others
        again = prepare(make_job(data))
        assert not again.reused
        assert again.manifest.digest == first.manifest.digest
        verify(again.path)
        return
    request.getfixturevalue("without_spark")
    with pytest.raises(AssertionError, match="Spark is started"):
        prepare(make_job(data), force=change == "force")
    assert read_manifest(first.path) == first.manifest


def fails_while_writing(make_job: MakeJob) -> Any:
    """Make a job whose class 2 occurs among test rows only, which is detected when shards are written."""
    query = f"SELECT size, color, if(id = 59, 2, id % 2) AS bought, {PARTS} FROM rows"
    label = {"column": "bought", "kind": "multiclass"}
    return make_job({"query": query, "label": label, "split": {"column": "part"}})


def test_failed_preparation_leaves_the_earlier_dataset_whole(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    write()
    first = prepare(make_job())
    text = (first.path / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="the class '2' occurs, but not in any training row"):
        prepare(fails_while_writing(make_job))
    assert (first.path / "manifest.json").read_bytes() == text
    verify(first.path)
    assert not list(first.path.rglob("*.tmp"))
    assert prepare(make_job()).reused


@pytest.mark.parametrize("change", ["grows", "goes"])
def test_source_that_changes_while_it_is_read_gives_no_dataset(
    write: Write, make_job: MakeJob, prepare: Prepare, change: str
) -> None:
    path = write()

    def disturb(event: Event) -> None:
        if isinstance(event, Progress) and event.text == "writing shards":
            if change == "goes":
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(path.read_bytes() + b"60,1.5,a,1\n")

    job = make_job()
    with pytest.raises(
        DataError, match=r"data\.sources: files changed while they were read; prepare again when nothing writes"
    ):
        prepare(job, disturb)
    assert not (Path(job.data.output) / "manifest.json").exists()


def test_failed_first_preparation_leaves_no_dataset(
    write: Write, make_job: MakeJob, prepare: Prepare, tmp_path: Path
) -> None:
    write()
    with pytest.raises(DataError):
        prepare(fails_while_writing(make_job))
    with pytest.raises(DatasetError, match=r"no manifest\.json, so no dataset"):
        read_manifest(tmp_path / "dataset")
    assert not list((tmp_path / "dataset").rglob("*.tmp"))


@pytest.mark.parametrize("was_there", [False, True])
def test_refused_preparation_leaves_no_new_empty_directory(
    write: Write, make_job: MakeJob, prepare: Prepare, tmp_path: Path, was_there: bool
) -> None:
    write()
    if was_there:
        (tmp_path / "dataset").mkdir()
    with pytest.raises(DataError, match=r"data\.query"):
        prepare(make_job({"query": "SELECT nothing FROM rows"}))
    assert (tmp_path / "dataset").exists() == was_there


def test_the_earlier_dataset_stays_until_the_new_manifest_is_there(
    write: Write, make_job: MakeJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    first = prepare(make_job())
    seen: list[dict[str, Any]] = []

    def look_first(directory: Path, manifest: Any) -> None:
        seen.append(verify(directory))
        write_manifest(directory, manifest)

    monkeypatch.setattr(prepare_module, "write_manifest", look_first)
    second = prepare(make_job({"query": "SELECT * FROM rows WHERE id > 9"}))
    assert seen == [first.manifest.model_dump(mode="json")]
    assert verify(second.path)["digest"] == second.manifest.digest != first.manifest.digest


def test_replaced_shards_are_removed_after_a_day(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    write()
    first = prepare(make_job())
    old = [shard.file for shards in first.manifest.splits.values() for shard in shards]
    two_days_ago = time.time() - 2 * 24 * 3600
    for name in old:  # an old dataset, which a training may be reading now
        os.utime(first.path / name, (two_days_ago, two_days_ago))
    job = make_job({"query": "SELECT * FROM rows WHERE id > 9"})
    second = prepare(job)
    kept = {shard.file for shards in second.manifest.splits.values() for shard in shards}
    assert set(shard_bytes(second.path)) == kept | set(old)

    for name in old[:-1]:
        os.utime(second.path / name, (two_days_ago, two_days_ago))
    events: list[Event] = []
    prepare(job, events.append, force=True)
    assert set(shard_bytes(second.path)) == kept | {old[-1]}
    assert [event.text for event in events if isinstance(event, Message)] == [
        f"removed {name}, which is not part of any dataset" for name in old[:-1]
    ]


def test_manifest_records_the_split_rule_and_the_sources(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    path = write("small.csv", HEADER + SMALL)
    manifest = json.loads((prepare(make_job()).path / "manifest.json").read_text())
    assert manifest["split_rule"] == {
        "train": 0.6,
        "validation": 0.2,
        "test": 0.2,
        "by": [],
        "column": None,
        "time": None,
        "seed": 0,
    }
    assert manifest["sources"] == [
        {
            "source": "rows",
            "path": str(path),
            "bytes": len(HEADER + SMALL),
            "mtime_ns": path.stat().st_mtime_ns,
            "xxh3_128": xxhash.xxh3_128_hexdigest((HEADER + SMALL).encode()),
        }
    ]
    assert manifest["preprocessing"]["types"] == {"color": "string", "size": "double"}
