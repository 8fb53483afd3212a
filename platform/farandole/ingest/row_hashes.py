"""Spark's `xxhash64` over columns of Arrow batches, and the splits and orders that follow from it.

A preparation without Spark must put each row where one with Spark puts it; see `ingest.spark.partitioning`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import xxhash

from farandole.spec import SPLITS, Split
from farandole.spec.base import non_default_fields

HASHED_TYPES = ("boolean", "int", "bigint", "float", "double", "string", "date", "timestamp")
"""SQL types of the columns that can be hashed here."""

_SPLIT_FIELDS = frozenset({"train", "validation", "test", "by", "column", "time", "seed"})
"""The fields of a split that `partition_columns` follows."""

_SEED = 42
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(number)
    for number in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
"""The primes of XXH64 (Yann Collet, https://github.com/Cyan4973/xxHash)."""
_FLAGS = 31
"""Number of null flags in one integer, as in the expression for Spark."""


def partition_columns(
    batch: pa.RecordBatch, split: Split, bounds: tuple[float, float] | None = None
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return the two hashes by which rows are sorted, and the index of each row's split.

    Args:
        batch: The rows, columns of `HASHED_TYPES` in the order of the dataset's columns.
        split: The rule.
        bounds: The result of `time_bounds` over all rows, if the rule is a time.

    Raises:
        NotImplementedError: The rule has a field that only Spark follows.
    """
    unknown = set(non_default_fields(split, *type(split).model_fields)) - _SPLIT_FIELDS
    if unknown:
        raise NotImplementedError(f"data.split: {', '.join(sorted(unknown))}: only Spark splits rows by it")
    first, second = (row_hashes(number, batch.columns) for number in range(2))
    if split.column is not None:
        index = _split_by_column(batch.column(split.column))
    elif split.time is not None:
        assert bounds is not None, "a split by time needs the bounds of all rows"
        index = _split_by_time(moments(batch.column(split.time)), bounds)
    else:
        index = _split_by_share(split, [batch.column(name) for name in split.by] or [pa.array(first), pa.array(second)])
    return pa.array(first), pa.array(second), pa.array(index.astype(np.int32))


def moments(column: pa.Array) -> np.ndarray:
    """Return the numbers by which a column of times or numbers is ordered, float64 `[rows]`; NaN where it is null."""
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    numbers: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def time_bounds(numbers: np.ndarray, split: Split) -> tuple[float, float] | None:
    """Return the first moments of the validation split and of the test split: exact quantiles, as Spark's `percentile`.

    Args:
        numbers: The result of `moments` for all rows.
        split: The rule.

    Returns:
        The bounds; None if no row has a moment.
    """
    ordered = np.sort(numbers[~np.isnan(numbers)])
    if not len(ordered):
        return None
    first, second = (_percentile(ordered, share) if share < 1 else math.inf for share in split.time_shares)
    return first, second


def _percentile(ordered: np.ndarray, share: float) -> float:
    position = (len(ordered) - 1) * share
    lower, higher = math.floor(position), math.ceil(position)
    low, high = float(ordered[lower]), float(ordered[higher])
    # In exactly this order of operations, and not at all between equal values: the last bit decides about a row.
    return low if low == high else (higher - position) * low + (position - lower) * high


def _split_by_column(column: pa.Array) -> np.ndarray:
    indices = column.dictionary_encode()
    words = np.array([*(SPLITS.index(w) if w in SPLITS else -1 for w in indices.dictionary.to_pylist()), -1])
    index: np.ndarray = words[indices.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)]
    return index


def _split_by_time(numbers: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    first, second = bounds
    return np.where(np.isnan(numbers) | (numbers < first), 0, np.where(numbers < second, 1, 2))


def _split_by_share(split: Split, columns: Sequence[pa.Array]) -> np.ndarray:
    hashed = row_hashes(f"split {split.seed}", columns).view(np.uint64)
    share = (hashed >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.where(share < split.train, 0, np.where(share < split.train + split.validation, 1, 2))


def row_hashes(key: int | str, columns: Sequence[pa.Array]) -> np.ndarray:
    """Return `xxhash64(key, columns…, null flags…)` of each row, int64 `[rows]`."""
    rows = len(columns[0])
    key_bytes = key.encode() if isinstance(key, str) else struct.pack("<i", key)
    hashes = np.full(rows, xxhash.xxh64_intdigest(key_bytes, seed=_SEED), np.uint64)
    for column in columns:
        hashed = _hash_column(column, hashes)
        hashes = np.where(_is_null(column), hashes, hashed)
    for start in range(0, len(columns), _FLAGS):
        flags = np.zeros(rows, np.int32)
        for bit, column in enumerate(columns[start : start + _FLAGS]):
            flags |= _is_null(column).astype(np.int32) << np.int32(bit)
        hashes = _hash_ints(flags, hashes)
    signed: np.ndarray = hashes.view(np.int64)
    return signed


def _is_null(column: pa.Array) -> np.ndarray:
    nulls: np.ndarray = column.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _hash_column(column: pa.Array, seeds: np.ndarray) -> np.ndarray:
    kind = column.type
    if pa.types.is_string(kind):
        digest = xxhash.xxh64_intdigest
        pairs = zip(column.to_pylist(), seeds.tolist(), strict=True)
        return np.array([0 if text is None else digest(text.encode(), seed=seed) for text, seed in pairs], np.uint64)
    if pa.types.is_boolean(kind):
        return _hash_ints(column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.int32), seeds)
    if pa.types.is_floating(kind):
        values = column.fill_null(0).to_numpy(zero_copy_only=False) + 0  # -0.0 becomes 0.0
        values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)  # one NaN of the many
        if pa.types.is_float32(kind):
            return _hash_ints(values.view(np.int32), seeds)
        return _hash_longs(values.view(np.int64), seeds)
    if pa.types.is_date32(kind) or pa.types.is_int32(kind):
        return _hash_ints(column.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False), seeds)
    assert pa.types.is_timestamp(kind) or pa.types.is_int64(kind), f"{kind} is not in HASHED_TYPES"
    return _hash_longs(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), seeds)


def _hash_ints(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    hashes = (seeds + _P5 + np.uint64(4)) ^ (values.view(np.uint32).astype(np.uint64) * _P1)
    return _mix(_rotate(hashes, 23) * _P2 + _P3)


def _hash_longs(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    hashes = (seeds + _P5 + np.uint64(8)) ^ (_rotate(values.view(np.uint64) * _P2, 31) * _P1)
    return _mix(_rotate(hashes, 27) * _P1 + _P4)


def _rotate(values: np.ndarray, bits: int) -> np.ndarray:
    rotated: np.ndarray = (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))
    return rotated


def _mix(hashes: np.ndarray) -> np.ndarray:
    hashes = (hashes ^ (hashes >> np.uint64(33))) * _P2
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _P3
    mixed: np.ndarray = hashes ^ (hashes >> np.uint64(32))
    return mixed
