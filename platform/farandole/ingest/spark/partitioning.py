"""Assignment of rows to splits, shards and positions in shards, by functions of a row's content alone.

The partition in which Spark holds a row has no influence, so that any number of partitions or executors gives the same
shards.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from farandole.errors import DataError
from farandole.ingest.spark.column_names import NeutralFrame
from farandole.spec import SPLITS, Split

RESERVED_PREFIX = "_farandole_"
"""Prefix of the columns that Farandole adds, forbidden in all other columns."""
SPLIT = "_farandole_split"
"""Column with the index of the row's split in `SPLITS`."""
TRAIN = SPLITS.index("train")
"""Value of that column for a training row."""
ORDER = ("_farandole_order_1", "_farandole_order_2")
"""Columns with two 64-bit hashes of the row, by which rows are sorted; rows that agree in both are equal."""

MAX_NARROW_BYTES = 2048
"""Maximum text in a narrow row: a batch of 50,000 such rows fits into Spark's memory."""
WIDE_ROW = "@farandole-wide-row"
"""Text of the error about a wider row."""
_MAX_TEXTS = 200
"""Maximum number of text columns whose widths Spark's parser can add up in one expression."""
_FLAGS = 31
"""Number of null flags that are packed into the bits of one integer."""
_PLAIN = (T.NumericType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType, T.StringType, T.NullType)

_ORDERED = frozenset(
    {
        "timestamp",
        "timestamp_ntz",
        "date",
        "tinyint",
        "smallint",
        "int",
        "bigint",
        "float",
        "double",
        "decimal",
    }
)
"""SQL types that order rows, without their parameters."""


def with_partition_columns(frame: DataFrame, split: Split) -> DataFrame:
    """Add the columns that decide the split, the shard and the position of each row.

    Raises:
        DataError: A column holds maps, which have no order, and so no hash.
    """
    for field in frame.schema.fields:
        if "map<" in field.dataType.simpleString():
            raise DataError(
                f"column {field.name}: holds maps, whose entries have no order, so that equal rows would not be equal;"
                f" write array_sort(map_entries({field.name})) in the query"
            )
    rows = NeutralFrame(frame)
    hashes = [_hash(str(number), rows.frame.columns) for number in range(len(ORDER))]
    ordered = rows.frame.selectExpr("*", *(f"{text} AS {name}" for text, name in zip(hashes, ORDER, strict=True)))
    if split.column is not None:
        index = _split_by_column(rows.neutral(split.column))
    elif split.time is not None:
        index = _split_by_time(rows.frame, rows.neutral(split.time), split)
    else:
        index = _split_by_share(split, [rows.neutral(column) for column in split.by])
    return rows.restore(ordered.selectExpr("*", f"{index} AS {SPLIT}"), *ORDER, SPLIT)


def check_time_type(split: Split, kind: str) -> None:
    """Check that a column can order the rows.

    Args:
        split: The rule, by time.
        kind: The SQL type of its column.

    Raises:
        DataError: The column holds neither times nor numbers.
    """
    if kind.partition("(")[0] not in _ORDERED:
        raise DataError(
            f"data.split.time: {split.time}: holds {kind}, which does not order the rows; declare"
            " it as date or timestamp, or cast it in the query"
        )


def no_time_error(split: Split) -> DataError:
    """Return the error about a column that should order the rows and has no value."""
    return DataError(f"data.split.time: {split.time}: has no value in any row; choose another column")


def narrow_rows(frame: DataFrame) -> DataFrame | None:
    """Return the frame with a check of each row: more than `MAX_NARROW_BYTES` of text fail the query with `WIDE_ROW`.

    Returns:
        None if columns that are not text may be wide, or if there are too many texts for one expression.
    """
    rows = NeutralFrame(frame)
    kinds = {field.name: field.dataType for field in rows.frame.schema.fields}
    if not all(isinstance(kind, _PLAIN) for kind in kinds.values()):
        return None
    texts = [name for name, kind in kinds.items() if isinstance(kind, T.StringType)]
    if len(texts) > _MAX_TEXTS:
        return None
    width = " + ".join(["0", *(f"coalesce(octet_length({text}), 0)" for text in texts)])
    split = rows.neutral(SPLIT)
    checked = f"if({width} > {MAX_NARROW_BYTES}, raise_error('{WIDE_ROW}'), {split}) AS {split}"
    return rows.restore(rows.frame.selectExpr(*(checked if name == split else name for name in kinds)))


def shard_numbers(splits: np.ndarray, order: np.ndarray, shards_of_split: list[int]) -> np.ndarray:
    """Compute the shard of each row, counted over all splits.

    Args:
        splits: The index of each row's split, int32 `[rows]`.
        order: The first hash of each row, int64 `[rows]`.
        shards_of_split: The number of shards of each split.

    Returns:
        int64 `[rows]`.
    """
    counts = np.asarray(shards_of_split, dtype=np.int64)
    first = np.cumsum(counts) - counts
    numbers: np.ndarray = first[splits] + order % counts[splits]
    return numbers


def row_order(order_1: np.ndarray, order_2: np.ndarray) -> np.ndarray:
    """Sort rows by the first hash, then by the second.

    Args:
        order_1: The first hash of each row, int64 `[rows]`.
        order_2: The second hash, int64 `[rows]`.

    Returns:
        The indices of the rows in order, int64 `[rows]`.
    """
    indices = np.argsort(order_1)
    equal = np.flatnonzero(order_1[indices[1:]] == order_1[indices[:-1]])
    if (order_2[indices[equal]] != order_2[indices[equal + 1]]).any():
        return np.lexsort((order_2, order_1))  # slower: two different rows share their first 64 bits
    return indices  # rows that agree in the first hash agree in the second too: they are equal


def split_counts(found: Mapping[int, int], split: Split) -> list[int]:
    """Return the number of rows in each split.

    Args:
        found: Rows by the value of `SPLIT`.
        split: The rule.

    Raises:
        DataError: There are no rows, a split that should have some has none, or `split.column` holds another word.
    """
    counts = dict(found)
    unknown = counts.pop(-1, 0)
    if unknown:
        raise DataError(
            f"data.split.column: {split.column}: {unknown} rows are not one of {', '.join(SPLITS)}; fix the query"
        )
    rows = sum(counts.values())
    if not rows:
        raise DataError("data: the sources and the query give no rows; look at the files and at the query's WHERE")
    shares = {"train": split.train, "validation": split.validation, "test": split.test}
    for index, name in enumerate(SPLITS):
        wanted = name == "train" if split.column else shares[name] > 0
        if wanted and not counts.get(index):
            what = f"share {shares[name]:g}" if not split.column else f"column {split.column}"
            raise DataError(
                f"data.split.{name}: no row of {rows} falls into it ({what}); give it a greater share, more rows,"
                " or a `by` with more different values"
            )
    return [counts.get(index, 0) for index in range(len(SPLITS))]


# SQL, not Spark's functions in Python: each of those calls the JVM many times, which together takes as long as planning
# the query.


def _split_by_share(split: Split, by: list[str]) -> str:
    # Where all columns decide, use the two hashes of them: a third one over all columns would cost as much again.
    hashed = _hash(f"'split {split.seed}'", by or list(ORDER))
    # The upper 53 bits as a number in [0, 1).
    share = f"CAST(shiftrightunsigned({hashed}, 11) AS DOUBLE) / {2.0**53!r}D"
    train, validation = f"{split.train!r}D", f"{split.train + split.validation!r}D"
    return f"CASE WHEN {share} < {train} THEN 0 WHEN {share} < {validation} THEN 1 ELSE 2 END"


def _split_by_time(frame: DataFrame, column: str, split: Split) -> str:
    """Return the expression that gives the earliest rows to training, the next to validation, the latest to test.

    The bounds are exact quantiles, which do not depend on the order in which Spark reads the rows.

    Args:
        frame: The rows.
        column: The column of times, by its neutral name in the frame.
        split: The rule.

    Raises:
        DataError: The column holds neither times nor numbers.
    """
    name, kind = column, frame.schema[column].dataType
    check_time_type(split, kind.simpleString())
    if isinstance(kind, T.TimestampType | T.TimestampNTZType):
        moment = f"CAST(unix_micros(CAST({name} AS TIMESTAMP)) AS DOUBLE)"
    elif isinstance(kind, T.DateType):
        moment = f"CAST(unix_date({name}) AS DOUBLE)"
    else:
        moment = f"nanvl(CAST({name} AS DOUBLE), NULL)"
    shares = f"array({', '.join(f'{share!r}D' for share in split.time_shares)})"
    bounds = frame.selectExpr(f"percentile({moment}, {shares}) AS bounds").collect()[0]["bounds"]
    if bounds is None:
        raise no_time_error(split)
    # Without a share for what follows, the rows of the last moment belong to the split before, too.
    conditions = (
        f"{moment} < {bound!r}D" if share < 1 else "TRUE"
        for bound, share in zip(bounds, split.time_shares, strict=True)
    )
    first, second = conditions
    return f"CASE WHEN {moment} IS NULL OR {first} THEN 0 WHEN {second} THEN 1 ELSE 2 END"


def _split_by_column(column: str) -> str:
    cases = " ".join(f"WHEN '{name}' THEN {index}" for index, name in enumerate(SPLITS))
    return f"CASE {column} {cases} ELSE -1 END"


def _hash(key: str, columns: list[str]) -> str:
    """Return the expression of Spark's xxhash64 with a key.

    The hash skips nulls, so that (null, 1) and (1, null) would collide: the null flags are hashed too.
    """
    flags = [_nulls(columns[start : start + _FLAGS]) for start in range(0, len(columns), _FLAGS)]
    return f"xxhash64({', '.join([key, *columns, *flags])})"


def _nulls(columns: list[str]) -> str:
    """Return the expression of a number with a null flag per bit: hashing it takes no longer than hashing one flag."""
    return " | ".join(f"if({name} IS NULL, {1 << bit}, 0)" for bit, name in enumerate(columns))
