from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DataError, PreparationError
from farandole.ingest.spark.error_transport import decode_error
from farandole.ingest.spark.partitioning import ORDER, SPLIT
from farandole.ingest.spark.tasks import (
    PassStatistics,
    ShardPosition,
    _rows_by_shard,
    deal_to_shards,
    observe_rows,
    pack_rows,
    write_shards,
)
from farandole.preprocess import Preprocessing, learn
from farandole.shards import ShardInfo, ShardWriter
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
    *_, last = pack_rows(unfitted)([batch([0, 0], sizes=[1.0, 2.0])])
    return learn(unfitted, seen_in(last).observations)


def batch(splits: list[int], sizes: list[Any] | None = None, first: int = 0) -> pa.RecordBatch:
    """Return rows with partition columns that reverse their order."""
    rows = len(splits)
    numbers = range(first, first + rows)
    return pa.record_batch(
        {
            "size": pa.array(sizes or [float(number) for number in numbers], pa.float64()),
            "bought": pa.array([number % 2 for number in numbers], pa.int32()),
            ORDER[0]: pa.array([-number for number in numbers], pa.int64()),
            ORDER[1]: pa.array([0] * rows, pa.int64()),
            SPLIT: pa.array(splits, pa.int32()),
        }
    )


def seen_in(row: pa.RecordBatch) -> PassStatistics:
    seen: PassStatistics = pickle.loads(row.column("seen")[0].as_py())
    return seen


def pieces(fitted: Preprocessing, *batches: pa.RecordBatch, shards_of_split: list[int]) -> list[pa.RecordBatch]:
    """Return the input of the task that writes, each piece in its own batch."""
    *packed, _ = pack_rows(fitted)(batches)
    return list(deal_to_shards(fitted, shards_of_split)(packed))


def infos_in(row: pa.RecordBatch) -> dict[int, ShardInfo]:
    texts = zip(row.column("shard").to_pylist(), row.column("info").to_pylist(), strict=True)
    return {shard: ShardInfo.model_validate_json(info) for shard, info in texts}


def test_partition_is_packed_and_its_training_rows_are_observed(unfitted: Preprocessing) -> None:
    *packed, last = pack_rows(unfitted)([batch([0, 0, 1]), batch([0, 2], first=3)])
    assert [row.column("seen").null_count for row in (*packed, last)] == [1, 1, 0]
    seen = seen_in(last)
    assert seen.split_rows == {0: 3, 1: 1, 2: 1}
    assert seen.observations.summaries["size"].rows == 3
    assert seen.observations.counts[":label"] == {"0": 1, "1": 2}


def test_later_pass_observes_the_same_rows_as_the_first(unfitted: Preprocessing) -> None:
    *packed, last = pack_rows(unfitted)([batch([0, 0, 1]), batch([0, 2], first=3)])
    (again,) = observe_rows(unfitted)(packed)
    (nothing,) = observe_rows(unfitted)([])
    merged = seen_in(nothing)
    merged.merge(seen_in(again))
    first = seen_in(last)
    assert (merged.observations, merged.split_rows) == (first.observations, first.split_rows)


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        ([], {}),
        ([4], {4: [0]}),
        ([3, 0, 3, 1, 0, 3], {0: [1, 4], 1: [3], 3: [0, 2, 5]}),
    ],
)
def test_rows_are_grouped_by_shard(shards: list[int], expected: dict[int, list[int]]) -> None:
    assert {shard: rows.tolist() for shard, rows in _rows_by_shard(np.array(shards, dtype=np.int64))} == expected


def test_batch_boundaries_have_no_effect_on_shards(fitted: Preprocessing, tmp_path: Path) -> None:
    places = [ShardPosition("train", 0), ShardPosition("train", 1), ShardPosition("test", 0)]
    write = write_shards(fitted, tmp_path, places, block_rows=2)
    one = pieces(fitted, batch([0, 0, 0, 2, 0, 0, 2]), shards_of_split=[2, 0, 1])
    two = pieces(fitted, batch([0, 0, 0]), batch([2, 0, 0, 2], first=3), shards_of_split=[2, 0, 1])
    (row,) = write(one)
    infos = infos_in(row)
    assert {shard: info.rows for shard, info in infos.items()} == {0: 3, 1: 2, 2: 2}
    assert [len(info.blocks) for info in infos.values()] == [2, 1, 1]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == sorted(
        info.file for info in infos.values()
    )
    assert row.column("raw_rows").to_pylist() == [3, 2, 2]
    (row,) = write(reversed(two))
    assert infos_in(row) == infos


def test_rows_of_a_shard_are_in_the_order_of_their_hashes(fitted: Preprocessing, tmp_path: Path) -> None:
    write = write_shards(fitted, tmp_path, [ShardPosition("train", 0)], block_rows=2)
    (row,) = write(pieces(fitted, batch([0, 0]), batch([0, 0], first=2), shards_of_split=[1, 0, 0]))
    with pa.ipc.open_file(str(tmp_path / infos_in(row)[0].file)) as file:
        assert file.read_all().column("dense").to_pylist() == [[3.0], [2.0], [1.0], [0.0]]


def test_a_partition_without_rows_writes_nothing(fitted: Preprocessing, tmp_path: Path) -> None:
    (row,) = write_shards(fitted, tmp_path, [ShardPosition("train", 0)], block_rows=2)([])
    assert row.num_rows == 0
    assert not list(tmp_path.iterdir())


def test_error_in_a_worker_reaches_the_driver_as_itself(fitted: Preprocessing) -> None:
    *packed, _ = pack_rows(fitted)([batch([0]), batch([0], sizes=[float("inf")])])
    with pytest.raises(RuntimeError) as caught:
        list(deal_to_shards(fitted, [1, 0, 0])(packed))
    error = decode_error(
        f"org.apache.spark.SparkException: Job aborted\nRuntimeError: {caught.value}\n\tat java.lang.X"
    )
    assert type(error) is DataError
    assert str(error).startswith("features.size: column size: 1 values such as inf cannot become a finite number")


def test_failed_writer_leaves_no_file(fitted: Preprocessing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: ShardWriter) -> ShardInfo:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "close", full)
    write = write_shards(fitted, tmp_path, [ShardPosition("train", 0)], block_rows=2)
    with pytest.raises(RuntimeError, match="No space left on device"):
        list(write(pieces(fitted, batch([0, 0, 0]), shards_of_split=[1, 0, 0])))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_full_disk_is_reported_with_the_output_directory(fitted: Preprocessing, tmp_path: Path) -> None:
    def batches() -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    with pytest.raises(RuntimeError) as caught:
        list(write_shards(fitted, tmp_path, [], block_rows=2)(batches()))
    error = decode_error(str(caught.value))
    assert type(error) is PreparationError
    assert str(error) == (
        f"data.output: {tmp_path}: No space left on device; free some space, or choose another data.output"
    )


def test_full_scratch_directory_is_reported_with_its_name(unfitted: Preprocessing, tmp_path: Path) -> None:
    def batches() -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    with pytest.raises(RuntimeError) as caught:
        list(pack_rows(unfitted, scratch=tmp_path)(batches()))
    error = decode_error(str(caught.value))
    assert type(error) is PreparationError
    assert str(error) == (
        f"{tmp_path}: No space left on device; free some space, or set SPARK_LOCAL_DIRS to a directory with more"
    )


def test_rows_passed_in_files_become_the_same_shards(fitted: Preprocessing, tmp_path: Path) -> None:
    rows = [batch([0, 0, 0, 2, 0, 0, 2]), batch([0, 2], first=7)]
    scratch, by_files, by_values = (tmp_path / name for name in ("scratch", "files", "values"))
    scratch.mkdir()
    *packed, _ = pack_rows(fitted, scratch=scratch)(rows)
    found = list(deal_to_shards(fitted, [2, 0, 1], scratch)(packed))
    assert len(list(scratch.iterdir())) == 2
    places = [ShardPosition("train", 0), ShardPosition("train", 1), ShardPosition("test", 0)]
    (one,) = write_shards(fitted, by_files, places, block_rows=2)(found)
    (two,) = write_shards(fitted, by_values, places, block_rows=2)(pieces(fitted, *rows, shards_of_split=[2, 0, 1]))
    assert infos_in(one) == infos_in(two)


def test_unknown_error_is_not_packed(fitted: Preprocessing, tmp_path: Path) -> None:
    def batches() -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")
        yield

    with pytest.raises(PermissionError):
        list(write_shards(fitted, tmp_path, [], block_rows=2)(batches()))
