"""Gives each row its split, its shard and its place in the shard: functions of the row's content alone.

Where Spark happens to hold a row never enters, so any number of partitions or executors gives the same shards.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from farandole.errors import DataError
from farandole.ingest.executor import SHARD
from farandole.spec import SPLITS, Split

SPLIT = "_farandole_split"
"""The column with the index of the row's split in `SPLITS`."""
_ORDER = ("_farandole_order_1", "_farandole_order_2")
"""Two 64-bit hashes of the row, which sort it; rows that agree in both are equal."""


def with_places(frame: DataFrame, split: Split) -> DataFrame:
    """The frame with the columns that say where each row goes.

    Raises:
        DataError: `split.by` or `split.column` names a column that is not there.
    """
    columns = frame.columns
    return frame.withColumns(
        {
            _ORDER[0]: _hash("order 1", columns),
            _ORDER[1]: _hash("order 2", columns),
            SPLIT: _split_by_column(split.column) if split.column else _split_by_share(split, columns),
        }
    )


def sorted_into_shards(placed: DataFrame, shards_of_split: list[int]) -> DataFrame:
    """One partition for each shard, its rows in their final order.

    Args:
        placed: What `with_places` gave.
        shards_of_split: The number of shards of each split.
    """
    shard = F.lit(0)
    first = 0
    for index, count in enumerate(shards_of_split):
        if count:
            in_split = F.lit(first) + F.pmod(F.col(_ORDER[0]), F.lit(count)).cast("int")
            shard = F.when(F.col(SPLIT) == index, in_split).otherwise(shard)
            first += count
    # repartitionById sends a row to exactly the partition that its id names (Spark 4.1).
    numbered = placed.withColumn(SHARD, shard).repartitionById(first, F.col(SHARD))
    return numbered.sortWithinPartitions(SHARD, *_ORDER).drop(SPLIT, *_ORDER)


def split_counts(placed: DataFrame, split: Split) -> list[int]:
    """The number of rows in each split.

    Raises:
        DataError: There are no rows, a split that should have some has none, or `split.column` holds another word.
    """
    counts = {row[SPLIT]: row["count"] for row in placed.groupBy(SPLIT).count().collect()}
    unknown = counts.pop(-1, 0)
    if unknown:
        raise DataError(
            f"data.split.column: {split.column}: {unknown} rows say neither {', '.join(SPLITS)}; mend the query"
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


def _split_by_share(split: Split, columns: list[str]) -> Column:
    hashed = _hash(f"split {split.seed}", list(split.by) or columns)
    # The upper 53 bits as a number in [0, 1).
    share = F.shiftrightunsigned(hashed, 11).cast("double") / F.lit(float(2**53))
    return F.when(share < split.train, 0).when(share < split.train + split.validation, 1).otherwise(2)


def _split_by_column(column: str) -> Column:
    word = F.col(f"`{column}`")
    chosen = F.lit(-1)
    for index, name in enumerate(SPLITS):
        chosen = F.when(word == name, index).otherwise(chosen)
    return chosen


def _hash(key: str, columns: list[str]) -> Column:
    """Spark's xxhash64 keyed by a text. It skips nulls, so that (null, 1) and (1, null) would collide: which
    columns are null is hashed too."""
    quoted = [F.col(f"`{column}`") for column in columns]
    return F.xxhash64(F.lit(key), *quoted, *(column.isNull() for column in quoted))
