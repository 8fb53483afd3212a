from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from farandole.errors import DataError
from farandole.ingest.executor import SHARD
from farandole.ingest.place import SPLIT, sorted_into_shards, split_counts, with_places
from farandole.spec import Split

ROWS = 5000


@pytest.fixture
def frame(spark: SparkSession) -> DataFrame:
    return spark.range(ROWS).selectExpr("id", "id % 500 AS customer", "if(id % 7 = 0, null, id * 0.5) AS size")


def split_of(frame: DataFrame, split: Split) -> dict[int, int]:
    """The split of each row, by its id."""
    return {row["id"]: row[SPLIT] for row in with_places(frame, split).select("id", SPLIT).collect()}


def test_the_shares_are_about_right(frame: DataFrame) -> None:
    counts = split_counts(with_places(frame, Split(train=0.7, validation=0.2, test=0.1)), Split())
    assert sum(counts) == ROWS
    # Four standard deviations of a binomial count.
    for count, share in zip(counts, (0.7, 0.2, 0.1), strict=True):
        assert abs(count - ROWS * share) < 4 * (ROWS * share * (1 - share)) ** 0.5


def test_a_share_of_nothing_gets_no_row(frame: DataFrame) -> None:
    split = Split(train=1.0, validation=0.0, test=0.0)
    assert split_counts(with_places(frame, split), split) == [ROWS, 0, 0]


def test_by_keeps_rows_that_agree_together(frame: DataFrame) -> None:
    split = Split(train=0.5, validation=0.3, test=0.2, by=("customer",))
    splits = defaultdict(set)
    for number, place in split_of(frame, split).items():
        splits[number % 500].add(place)
    assert all(len(places) == 1 for places in splits.values())
    assert set.union(*splits.values()) == {0, 1, 2}


def test_another_seed_gives_another_split_of_the_same_shares(frame: DataFrame) -> None:
    first, second = split_of(frame, Split(seed=1)), split_of(frame, Split(seed=2))
    assert split_of(frame, Split(seed=1)) == first
    # Rows agree by chance alone: 0.8² + 0.1² + 0.1² of them.
    agreeing = sum(first[number] == second[number] for number in first) / ROWS
    assert abs(agreeing - 0.66) < 0.04


def test_the_place_of_a_row_does_not_depend_on_partitions_or_order(frame: DataFrame) -> None:
    split = Split(seed=3)
    assert split_of(frame.orderBy(F.desc("size")).repartition(5), split) == split_of(frame.coalesce(1), split)


def test_a_column_may_say_the_split(spark: SparkSession) -> None:
    words = ["train", "test", "validation", "train"]
    frame = spark.createDataFrame(list(enumerate(words)), "id int, part string")
    split = Split(column="part")
    assert split_of(frame, split) == {0: 0, 1: 2, 2: 1, 3: 0}
    assert split_counts(with_places(frame, split), split) == [2, 1, 1]


def test_a_column_may_leave_validation_and_test_empty(spark: SparkSession) -> None:
    split = Split(column="part")
    assert split_counts(with_places(spark.sql("SELECT 1 AS id, 'train' AS part"), split), split) == [1, 0, 0]


@pytest.mark.parametrize("word", ["'Train'", "'tset'", "null"])
def test_a_word_that_names_no_split_is_refused_with_its_rows(spark: SparkSession, word: str) -> None:
    frame = spark.sql(f"SELECT id, if(id < 3, {word}, 'train') AS part FROM range(10)")
    split = Split(column="part")
    with pytest.raises(DataError) as caught:
        split_counts(with_places(frame, split), split)
    assert str(caught.value).startswith(
        "data.split.column: part: 3 rows say neither train, validation, test; mend the query"
    )


def test_no_rows_are_refused(frame: DataFrame) -> None:
    with pytest.raises(DataError, match="data: the sources and the query give no rows"):
        split_counts(with_places(frame.where("false"), Split()), Split())


def test_an_empty_split_is_refused_with_its_share(frame: DataFrame) -> None:
    split = Split(train=0.8, validation=0.0001, test=0.1999)
    few = frame.where("id < 20")
    with pytest.raises(DataError, match=r"data\.split\.validation: no row of 20 falls into it \(share 0\.0001\)"):
        split_counts(with_places(few, split), split)


def partitions(frame: DataFrame) -> list[list[Any]]:
    return [part for part in frame.rdd.glom().collect() if part]


def test_each_shard_is_one_partition_in_an_order_of_its_own(frame: DataFrame) -> None:
    placed = with_places(frame, Split())
    first = partitions(sorted_into_shards(placed, [3, 1, 2]))
    assert len(first) == 6
    assert sorted(part[0][SHARD] for part in first) == list(range(6))
    assert all(len({row[SHARD] for row in part}) == 1 for part in first)
    again = partitions(sorted_into_shards(placed.repartition(7), [3, 1, 2]))
    assert sorted(again, key=lambda part: part[0][SHARD]) == sorted(first, key=lambda part: part[0][SHARD])
    ids = [row["id"] for part in first for row in part]
    assert sorted(ids) == list(range(ROWS))
    assert ids != sorted(ids)


def test_shards_of_a_split_hold_about_as_many_rows(frame: DataFrame) -> None:
    split = Split(train=1.0, validation=0.0, test=0.0)
    sizes = [len(part) for part in partitions(sorted_into_shards(with_places(frame, split), [10, 0, 0]))]
    assert len(sizes) == 10
    assert all(abs(size - ROWS / 10) < 4 * (ROWS / 10) ** 0.5 for size in sizes)


def test_missing_values_in_other_columns_make_other_rows(spark: SparkSession) -> None:
    frame = spark.sql("SELECT * FROM VALUES (1, null), (null, 1), (null, null) AS t(a, b)")
    hashes = with_places(frame, Split()).select("_farandole_order_1").distinct().count()
    assert hashes == 3
