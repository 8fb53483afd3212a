from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from farandole.errors import DataError
from farandole.ingest.spark.dataframes import needed_columns
from farandole.ingest.spark.partitioning import (
    MAX_NARROW_BYTES,
    ORDER,
    SPLIT,
    WIDE_ROW,
    narrow_rows,
    row_order,
    shard_numbers,
    split_counts,
    with_partition_columns,
)
from farandole.ingest.spark.session import QUERY_SETTINGS
from farandole.spec import Split

ROWS = 5000


@pytest.fixture
def frame(spark: SparkSession) -> DataFrame:
    return spark.range(ROWS).selectExpr("id", "id % 500 AS customer", "if(id % 7 = 0, null, id * 0.5) AS size")


def split_of(frame: DataFrame, split: Split) -> dict[int, int]:
    """Return the split of each row, by its id."""
    return {row["id"]: row[SPLIT] for row in with_partition_columns(frame, split).select("id", SPLIT).collect()}


def counted(placed: DataFrame) -> dict[int, int]:
    """Count rows by split."""
    return {row[SPLIT]: row["count"] for row in placed.groupBy(SPLIT).count().collect()}


def test_the_shares_are_about_right(frame: DataFrame) -> None:
    counts = split_counts(counted(with_partition_columns(frame, Split(train=0.7, validation=0.2, test=0.1))), Split())
    assert sum(counts) == ROWS
    # Four standard deviations of a binomial count.
    for count, share in zip(counts, (0.7, 0.2, 0.1), strict=True):
        assert abs(count - ROWS * share) < 4 * (ROWS * share * (1 - share)) ** 0.5


def test_a_share_of_nothing_gets_no_row(frame: DataFrame) -> None:
    split = Split(train=1.0, validation=0.0, test=0.0)
    assert split_counts(counted(with_partition_columns(frame, split)), split) == [ROWS, 0, 0]


def test_rows_that_agree_in_the_by_columns_share_a_split(frame: DataFrame) -> None:
    split = Split(train=0.5, validation=0.3, test=0.2, by=("customer",))
    splits = defaultdict(set)
    for number, place in split_of(frame, split).items():
        splits[number % 500].add(place)
    assert all(len(places) == 1 for places in splits.values())
    assert set.union(*splits.values()) == {0, 1, 2}


def test_another_seed_gives_another_split_of_the_same_shares(frame: DataFrame) -> None:
    first, second = split_of(frame, Split(seed=1)), split_of(frame, Split(seed=2))
    assert split_of(frame, Split(seed=1)) == first
    # Rows agree by chance only: a share of 0.8² + 0.1² + 0.1².
    agreeing = sum(first[number] == second[number] for number in first) / ROWS
    assert abs(agreeing - 0.66) < 0.04


def test_position_of_a_row_does_not_depend_on_partitions_or_order(frame: DataFrame) -> None:
    split = Split(seed=3)
    assert split_of(frame.orderBy(F.desc("size")).repartition(5), split) == split_of(frame.coalesce(1), split)


def test_column_may_name_the_split(spark: SparkSession) -> None:
    words = ["train", "test", "validation", "train"]
    frame = spark.createDataFrame(list(enumerate(words)), "id int, part string")
    split = Split(column="part")
    assert split_of(frame, split) == {0: 0, 1: 2, 2: 1, 3: 0}
    assert split_counts(counted(with_partition_columns(frame, split)), split) == [2, 1, 1]


def test_a_split_by_time_without_a_test_share_has_no_test_row(frame: DataFrame) -> None:
    split = Split(train=0.9, validation=0.1, test=0.0, time="id")
    assert split_counts(counted(with_partition_columns(frame, split)), split) == [ROWS * 9 // 10, ROWS // 10, 0]


def test_a_column_may_leave_validation_and_test_empty() -> None:
    split = Split(column="part")
    assert split_counts({0: 1}, split) == [1, 0, 0]


@pytest.mark.parametrize("word", ["'Train'", "'tset'", "null"])
def test_unknown_split_name_is_refused_with_its_rows(spark: SparkSession, word: str) -> None:
    frame = spark.sql(f"SELECT id, if(id < 3, {word}, 'train') AS part FROM range(10)")
    split = Split(column="part")
    with pytest.raises(DataError) as caught:
        split_counts(counted(with_partition_columns(frame, split)), split)
    assert str(caught.value).startswith(
        "data.split.column: part: 3 rows are not one of train, validation, test; fix the query"
    )


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="data: the sources and the query give no rows"):
        split_counts({}, Split())


def test_an_empty_split_is_refused_with_its_share(frame: DataFrame) -> None:
    split = Split(train=0.8, validation=0.0001, test=0.1999)
    few = frame.where("id < 20")
    with pytest.raises(DataError, match=r"data\.split\.validation: no row of 20 falls into it \(share 0\.0001\)"):
        split_counts(counted(with_partition_columns(few, split)), split)


def places_of(frame: DataFrame) -> list[tuple[int, ...]]:
    return [tuple(row) for row in with_partition_columns(frame, Split()).select(*ORDER, SPLIT).collect()]


def test_rows_with_nulls_in_different_columns_have_different_hashes(spark: SparkSession) -> None:
    """Use more columns than one number has flags; each row is null in another column, and 1 elsewhere."""
    columns = [f"if(id = {number}, null, 1) AS c{number}" for number in range(70)]
    assert len(set(places_of(spark.range(70).selectExpr(*columns)))) == 70


@pytest.mark.parametrize("name", ["a`b", "cost ${USD}", "${spark.app.name}", "a.b", "--", "a 'b\"", "ü"])
def test_columns_may_have_any_name(spark: SparkSession, name: str) -> None:
    session = spark.newSession()
    for key, value in QUERY_SETTINGS.items():
        session.conf.set(key, value)
    plain = session.range(20).selectExpr("id", "cast(id AS string) AS text")
    named = needed_columns(plain.withColumnRenamed("text", name), {"id": "", name: ""})
    assert set(named.columns) == {"id", name}
    narrow = narrow_rows(with_partition_columns(named, Split(by=(name,))))
    assert narrow is not None
    assert {row["id"]: row[name] for row in narrow.collect()} == {number: str(number) for number in range(20)}


def test_reserved_names_are_refused(frame: DataFrame) -> None:
    taken = frame.withColumnRenamed("size", "_farandole_split")
    with pytest.raises(
        DataError, match=r"data\.features\.x: _farandole_split: names that begin with _farandole_ are reserved"
    ):
        needed_columns(taken, {"_farandole_split": "data.features.x"})


def test_maps_are_refused_with_a_remedy(spark: SparkSession) -> None:
    frame = spark.range(3).selectExpr("id", "map('a', id) AS tags")
    with pytest.raises(DataError, match=r"column tags: holds maps, .* write array_sort\(map_entries\(tags\)\)"):
        with_partition_columns(frame, Split())
    assert len(set(places_of(frame.selectExpr("id", "array_sort(map_entries(tags)) AS tags")))) == 3


@pytest.mark.parametrize(("train", "validation"), [(0.1 + 0.2, 0.5), (1 - 1e-7, 1e-7), (0.8, 0.1)])
def test_shares_are_compared_exactly(frame: DataFrame, train: float, validation: float) -> None:
    split = Split(train=train, validation=validation, test=max(0.0, 1 - train - validation), by=("id",))
    share = F.shiftrightunsigned(F.xxhash64(F.lit("split 0"), "id", F.lit(0)), 11).cast("double") / F.lit(2.0**53)
    wanted = F.when(share < train, 0).when(share < train + validation, 1).otherwise(2)
    rows = with_partition_columns(frame, split).withColumn("wanted", wanted).select(SPLIT, "wanted").collect()
    assert all(row[SPLIT] == row["wanted"] for row in rows)


def test_too_many_text_columns_are_not_added_up(spark: SparkSession) -> None:
    columns = [f"'x' AS c{number}" for number in range(600)]
    assert narrow_rows(with_partition_columns(spark.range(2).selectExpr(*columns), Split())) is None


def test_each_split_has_its_own_shards() -> None:
    splits = np.array([0, 0, 0, 1, 2, 2], dtype=np.int32)
    order = np.array([3, 4, -1, 5, -2, 7], dtype=np.int64)
    assert shard_numbers(splits, order, [3, 1, 2]).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_split_without_rows_needs_no_shard() -> None:
    splits = np.array([2, 0], dtype=np.int32)
    assert shard_numbers(splits, np.array([1, -1], dtype=np.int64), [2, 0, 1]).tolist() == [2, 1]


def test_shards_of_a_split_hold_about_as_many_rows(frame: DataFrame) -> None:
    rows = with_partition_columns(frame, Split()).select(ORDER[0]).toArrow()
    order = rows.column(0).to_numpy()
    sizes = np.bincount(shard_numbers(np.zeros(ROWS, dtype=np.int32), order, [10, 0, 0]))
    assert len(sizes) == 10
    assert all(abs(size - ROWS / 10) < 4 * (ROWS / 10) ** 0.5 for size in sizes)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3))))
def test_rows_are_sorted_by_the_first_hash_and_then_by_the_second(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    assert [pairs[place] for place in row_order(first, second)] == sorted(pairs)


def test_rows_with_different_missing_values_have_different_hashes(spark: SparkSession) -> None:
    frame = spark.sql("SELECT * FROM VALUES (1, null), (null, 1), (null, null) AS t(a, b)")
    hashes = with_partition_columns(frame, Split()).select(ORDER[0]).distinct().count()
    assert hashes == 3


def test_narrow_rows_stay_as_they_are_and_a_wide_one_fails(spark: SparkSession) -> None:
    frame = with_partition_columns(
        spark.sql(f"SELECT repeat('é', {MAX_NARROW_BYTES // 2}) AS a, cast(null AS string) AS b, 1 AS c"), Split()
    )
    narrow = narrow_rows(frame)
    assert narrow is not None
    assert narrow.collect() == frame.collect()
    wide = narrow_rows(frame.withColumn("b", F.lit("x")))
    assert wide is not None
    with pytest.raises(PySparkException, match=WIDE_ROW):
        wide.collect()


@pytest.mark.parametrize("column", ["array(1)", "struct(1)", "cast('x' AS binary)"])
def test_columns_without_a_simple_width_are_never_narrow(spark: SparkSession, column: str) -> None:
    assert narrow_rows(with_partition_columns(spark.sql(f"SELECT {column} AS a, 1 AS b"), Split(by=("b",)))) is None
