"""Hashes of rows, compared with XXH64 of each value's bytes, one after the other."""

from __future__ import annotations

import datetime
import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farandole.ingest.row_hashes import moments, partition_columns, row_hashes, time_bounds
from farandole.spec import Split

TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "boolean": (pa.bool_(), st.booleans()),
    "int": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "bigint": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float32(), st.floats(width=32)),
    "double": (pa.float64(), st.floats()),
    "string": (pa.string(), st.text(max_size=40)),
    "date": (pa.date32(), st.dates()),
    "timestamp": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(datetime.UTC))),
}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _bytes(kind: str, value: Any) -> bytes:
    if kind == "boolean":
        return struct.pack("<i", int(value))
    if kind in ("int", "bigint"):
        return struct.pack("<i" if kind == "int" else "<q", value)
    if kind in ("float", "double"):
        exact = math.nan if math.isnan(value) else value + 0.0
        return struct.pack("<f" if kind == "float" else "<d", exact)
    if kind == "date":
        return struct.pack("<i", value.toordinal() - _EPOCH.toordinal())
    if kind == "timestamp":
        return struct.pack("<q", (value - _EPOCH) // datetime.timedelta(microseconds=1))
    encoded: bytes = value.encode()
    return encoded


def _expected(key: int | str, kinds: list[str], row: list[Any]) -> int:
    hashed = xxhash.xxh64_intdigest(key.encode() if isinstance(key, str) else struct.pack("<i", key), seed=42)
    for kind, value in zip(kinds, row, strict=True):
        if value is not None:
            hashed = xxhash.xxh64_intdigest(_bytes(kind, value), seed=hashed)
    for start in range(0, len(row), 31):
        flags = sum(1 << bit for bit, value in enumerate(row[start : start + 31]) if value is None)
        hashed = xxhash.xxh64_intdigest(struct.pack("<i", flags), seed=hashed)
    return int(np.array([hashed], np.uint64).view(np.int64)[0])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_row_hash_is_the_chain_of_the_values_hashes(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4))
    rows = data.draw(st.lists(st.tuples(*(st.none() | TYPES[kind][1] for kind in kinds)), min_size=1, max_size=5))
    columns = [pa.array([row[index] for row in rows], TYPES[kind][0]) for index, kind in enumerate(kinds)]
    assert row_hashes(0, columns).tolist() == [_expected(0, kinds, list(row)) for row in rows]


def test_flags_of_many_columns_take_several_numbers() -> None:
    columns = [pa.array([None if number % 3 else number], pa.int64()) for number in range(70)]
    row = [column[0].as_py() for column in columns]
    assert row_hashes("split 1", columns).tolist() == [_expected("split 1", ["bigint"] * 70, row)]


def test_column_decides_the_split() -> None:
    batch = pa.record_batch({"part": pa.array(["test", "train", None, "other", "validation"])})
    _, _, split = partition_columns(batch, Split(column="part"))
    assert split.to_pylist() == [2, 0, -1, -1, 1]


def test_groups_stay_together() -> None:
    batch = pa.record_batch({"group": pa.array(np.arange(3000) % 50), "x": pa.array(np.arange(3000.0))})
    _, _, split = partition_columns(batch, Split(train=0.8, validation=0.1, test=0.1, by=("group",)))
    parts = {(group, part) for group, part in zip(batch.column("group").to_pylist(), split.to_pylist(), strict=True)}
    assert len(parts) == 50
    assert {part for _, part in parts} == {0, 1, 2}


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_shares_are_met(share: float) -> None:
    batch = pa.record_batch({"x": pa.array(np.arange(20_000.0))})
    _, _, split = partition_columns(batch, Split(train=share, validation=0.0, test=1 - share))
    assert (np.asarray(split) == 0).mean() == pytest.approx(share, abs=0.02)


def _time_splits(column: pa.Array, split: Split) -> list[int]:
    bounds = time_bounds(moments(column), split)
    _, _, index = partition_columns(pa.record_batch({"when": column}), split, bounds)
    found: list[int] = index.to_pylist()
    return found


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.timestamp("us", "UTC")])
def test_earliest_rows_train_and_latest_test(kind: pa.DataType) -> None:
    numbers = pa.array([5, 1, 9, 3, None, 7, 2, 8, 4, 6, 10], pa.int32() if kind == pa.date32() else pa.int64())
    splits = _time_splits(numbers.cast(kind), Split(train=0.5, validation=0.3, test=0.2, time="when"))
    assert splits == [0, 0, 2, 0, 0, 1, 0, 1, 0, 1, 2]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_split_by_time_keeps_order_and_equal_times_together(numbers: list[int], random: Any) -> None:
    split = Split(train=0.6, validation=0.2, test=0.2, time="when")
    found = dict(zip(numbers, _time_splits(pa.array(numbers), split), strict=True))
    ordered = [found[number] for number in sorted(numbers)]
    assert ordered == sorted(ordered)
    shuffled = random.sample(numbers, len(numbers))
    assert [found[number] for number in shuffled] == _time_splits(pa.array(shuffled), split)


def test_split_without_a_share_gets_not_even_the_latest_row() -> None:
    numbers = pa.array([1, 2, 3, 4])
    assert _time_splits(numbers, Split(train=0.5, validation=0.5, test=0.0, time="when")) == [0, 0, 1, 1]
    assert _time_splits(numbers, Split(train=1.0, validation=0.0, test=0.0, time="when")) == [0, 0, 0, 0]


def test_no_moment_gives_no_bounds() -> None:
    assert time_bounds(moments(pa.array([None, None], pa.float64())), Split(time="when")) is None


def test_rule_that_is_not_implemented_is_refused() -> None:
    class LaterSplit(Split):
        folds: int = 0

    batch = pa.record_batch({"x": pa.array([1.0, 2.0])})
    with pytest.raises(NotImplementedError, match="folds"):
        partition_columns(batch, LaterSplit(folds=5))
    assert len(partition_columns(batch, LaterSplit())[2]) == 2
