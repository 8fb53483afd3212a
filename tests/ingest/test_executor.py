from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from farandole.errors import DataError, PreparationFailed
from farandole.ingest.executor import SHARD, ShardPlace, _runs, error_in, observer, shard_writer
from farandole.preprocess import Observations, Preprocessing, learn, merge
from farandole.shards import ShardInfo
from farandole.spec import Data


@pytest.fixture
def unfitted() -> Preprocessing:
    data = {
        "sources": {"rows": {"path": "/a.csv"}},
        "features": {"size": {"kind": "numeric", "scale": "none"}},
        "label": {"column": "bought", "kind": "binary"},
    }
    return Preprocessing.from_spec(Data.model_validate(data)).with_types({"size": "double", "bought": "int"})


@pytest.fixture
def fitted(unfitted: Preprocessing) -> Preprocessing:
    (row,) = observer(unfitted)([batch([0, 0], sizes=[1.0, 2.0])])
    return learn(unfitted, pickle.loads(row.column("seen")[0].as_py()))


def batch(shards: list[int], sizes: list[Any] | None = None) -> pa.RecordBatch:
    rows = len(shards)
    return pa.record_batch(
        {
            "size": pa.array(sizes or [float(number) for number in range(rows)], pa.float64()),
            "bought": pa.array([number % 2 for number in range(rows)], pa.int32()),
            SHARD: pa.array(shards, pa.int32()),
        }
    )


def test_each_partition_is_observed_into_one_row(unfitted: Preprocessing) -> None:
    (one,) = observer(unfitted)([batch([0, 0, 0]), batch([0])])
    (none,) = observer(unfitted)([])
    seen: Observations = merge(pickle.loads(row.column("seen")[0].as_py()) for row in (one, none))
    assert (one.num_rows, none.num_rows) == (1, 1)
    assert seen.summaries["size"].rows == 4
    assert seen.counts["label:"] == {"0": 3, "1": 1}


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        ([], []),
        ([4], [(4, 1)]),
        ([0, 0, 1, 3, 3, 3], [(0, 2), (1, 1), (3, 3)]),
    ],
)
def test_runs_are_the_rows_of_one_shard_each(shards: list[int], expected: list[tuple[int, int]]) -> None:
    runs = list(_runs(batch(shards)))
    assert [(shard, rows.num_rows) for shard, rows in runs] == expected
    assert [size for _, rows in runs for size in rows.column("size").to_pylist()] == list(range(len(shards)))


def test_sorted_rows_become_shards_wherever_a_batch_ends(fitted: Preprocessing, tmp_path: Path) -> None:
    places = [ShardPlace("train", 0), ShardPlace("train", 1), ShardPlace("test", 0)]
    write = shard_writer(fitted, tmp_path, places, block_rows=2)
    (row,) = write([batch([0, 0, 0, 1]), batch([1, 2]), batch([2])])
    infos = {
        shard: ShardInfo.model_validate_json(info)
        for shard, info in zip(row.column("shard").to_pylist(), row.column("info").to_pylist(), strict=True)
    }
    assert {shard: info.rows for shard, info in infos.items()} == {0: 3, 1: 2, 2: 2}
    assert [len(info.blocks) for info in infos.values()] == [2, 1, 1]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == sorted(
        info.file for info in infos.values()
    )


def test_a_partition_without_rows_writes_nothing(fitted: Preprocessing, tmp_path: Path) -> None:
    (row,) = shard_writer(fitted, tmp_path, [ShardPlace("train", 0)], block_rows=2)([])
    assert row.num_rows == 0
    assert not list(tmp_path.iterdir())


def test_an_error_of_ours_crosses_as_text_and_leaves_no_file(fitted: Preprocessing, tmp_path: Path) -> None:
    write = shard_writer(fitted, tmp_path, [ShardPlace("train", 0)], block_rows=2)
    with pytest.raises(RuntimeError) as caught:
        list(write([batch([0, 0, 0]), batch([0], sizes=[float("inf")])]))
    error = error_in(f"org.apache.spark.SparkException: Job aborted\nRuntimeError: {caught.value}\n\tat java.lang.X")
    assert type(error) is DataError
    assert str(error).startswith("features.size: column size: 1 values such as inf cannot become a finite number")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_crosses_with_the_directory(fitted: Preprocessing, tmp_path: Path) -> None:
    def batches() -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    with pytest.raises(RuntimeError) as caught:
        list(shard_writer(fitted, tmp_path, [], block_rows=2)(batches()))
    error = error_in(str(caught.value))
    assert type(error) is PreparationFailed
    assert str(error) == (
        f"data.output: {tmp_path}: No space left on device; free some space, or choose another data.output"
    )


def test_an_error_of_another_kind_stays_itself(fitted: Preprocessing, tmp_path: Path) -> None:
    def batches() -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")
        yield

    with pytest.raises(PermissionError):
        list(shard_writer(fitted, tmp_path, [], block_rows=2)(batches()))


@pytest.mark.parametrize("message", ["plain", 'quotes " and \\ and }', "two\nlines", "café ✓ @farandole-error {"])
def test_any_message_survives_the_way_through_spark(message: str) -> None:
    packed = "@farandole-error " + json.dumps({"kind": "DataError", "message": message})
    error = error_in(f"PythonException: Traceback …\nRuntimeError: {packed}\n\n\tat org.apache.spark.Task")
    assert str(error) == message
    assert error is not None
    assert error.detail is not None
    assert "org.apache.spark.Task" in error.detail


def test_a_text_without_an_error_of_ours_gives_none() -> None:
    assert error_in("org.apache.spark.SparkException: Job aborted") is None
