from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.errors import DatasetError
from farandole.loading import JoinedLoader, MixedLoader
from farandole.loading.mixing import apportion
from farandole.shards import Dataset

Write = Callable[..., Dataset]
BATCH = 10


@pytest.fixture
def three(write_dataset: Write) -> list[Dataset]:
    """Datasets of 40, 25 and 12 rows, with row numbers from 0, 1000 and 2000."""
    return [
        write_dataset(name=f"part{index}", first=1000 * index, train=[rows], block_rows=7)
        for index, rows in enumerate((40, 25, 12))
    ]


def steps_of(
    datasets: list[Dataset], size: int = 1, epoch: int = 0, first_step: int = 0, **options: Any
) -> list[list[int]]:
    """Return the sorted row numbers of each global batch, assembled from all ranks."""
    ranks = [
        MixedLoader(datasets, [5, 3, 2], global_batch_size=BATCH, rank=rank, size=size, **options)
        for rank in range(size)
    ]
    parts = [[batch.features["ids"][:, 0].tolist() for batch in loader.epoch(epoch, first_step)] for loader in ranks]
    return [sorted(row for part in step for row in part) for step in zip(*parts, strict=True)]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(1, 500))
def test_apportioned_rows_add_up_and_are_off_by_less_than_one(weights: list[float], rows: int) -> None:
    found = apportion(weights, rows)
    assert sum(found) == rows
    assert all(abs(share - rows * weight / sum(weights)) < 1 for share, weight in zip(found, weights, strict=True))


def test_each_batch_has_the_weighted_number_of_rows_of_each_dataset(three: list[Dataset]) -> None:
    loader = MixedLoader(three, [5, 3, 2], global_batch_size=BATCH)
    assert loader.rows_per_dataset == [5, 3, 2]
    assert len(loader) == 7  # 77 rows
    batches = list(loader)
    assert len(batches) == 7
    for batch in batches:
        numbers = batch.features["ids"][:, 0]
        assert Counter((numbers // 1000).tolist()) == {0: 5, 1: 3, 2: 2}
        assert (batch.label == numbers * 2.0).all()
        assert (batch.rows, batch.global_rows) == (BATCH, BATCH)


def test_a_dataset_that_ends_repeats_in_a_different_order(three: list[Dataset]) -> None:
    small = [[row for row in step if row >= 2000] for step in steps_of(three, steps=12)]
    rounds = [[row for step in small[start : start + 6] for row in step] for start in (0, 6)]
    assert [sorted(rows) for rows in rounds] == [list(range(2000, 2012))] * 2
    assert small[:6] != small[6:]


def test_the_mixture_is_the_same_for_every_number_of_ranks(three: list[Dataset]) -> None:
    alone = steps_of(three, epoch=1)
    for size in (2, 3, 7):
        assert steps_of(three, size, epoch=1) == alone


def test_an_epoch_can_start_at_any_step(three: list[Dataset]) -> None:
    whole = steps_of(three, epoch=0) + steps_of(three, epoch=1)
    for step in range(14):
        assert steps_of(three, 2, *divmod(step, 7))[0] == whole[step]
    assert steps_of(three, seed=1) != whole[:7]


def test_a_saved_state_resumes_with_another_number_of_ranks(three: list[Dataset]) -> None:
    whole = steps_of(three, epoch=0, seed=3) + steps_of(three, epoch=1, seed=3)
    loader = MixedLoader(three, [5, 3, 2], global_batch_size=BATCH, seed=3)
    for _ in loader:
        pass
    for step, _ in enumerate(loader):
        if step == 2:
            break
    ranks = [MixedLoader(three, [5, 3, 2], global_batch_size=BATCH, rank=rank, size=2) for rank in range(2)]
    for other in ranks:
        other.load_state_dict(loader.state_dict())
    remaining = [
        sorted(row for part in step for row in part.features["ids"][:, 0].tolist()) for step in zip(*ranks, strict=True)
    ]
    assert remaining == whole[10:]


def test_datasets_and_weights_that_do_not_match_are_rejected(write_dataset: Write, three: list[Dataset]) -> None:
    with pytest.raises(DatasetError, match="3 datasets and 2 weights"):
        MixedLoader(three, [1, 1], global_batch_size=BATCH)
    with pytest.raises(DatasetError, match=r"part1: weight 0; a weight must be a number above 0"):
        MixedLoader(three, [1, 0, 1], global_batch_size=BATCH)
    with pytest.raises(
        DatasetError, match=r"part2: its weight gives it 0 rows of each batch, but it has 12 training rows"
    ):
        MixedLoader(three, [1, 1, 0.001], global_batch_size=BATCH)
    with pytest.raises(DatasetError, match=r"part2: its weight gives it 50 rows of each batch, but it has 12"):
        MixedLoader(three, [1, 1, 50], global_batch_size=52)
    with pytest.raises(DatasetError, match=r"wide: its columns differ from those of .*part0"):
        MixedLoader([three[0], write_dataset(name="wide", train=[9], wide=True)], [1, 1], global_batch_size=BATCH)
    with pytest.raises(DatasetError, match=r"twin: it has the same content as .*part0; pass it once"):
        MixedLoader([three[0], write_dataset(name="twin", train=[40], block_rows=7)], [1, 1], global_batch_size=BATCH)
    state = MixedLoader(three, [5, 3, 2], global_batch_size=BATCH).state_dict()
    with pytest.raises(DatasetError, match="the loader state was saved for dataset"):
        MixedLoader(three, [3, 5, 2], global_batch_size=BATCH).load_state_dict(state)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_joined_batches_have_all_rows_of_a_split_and_as_many_training_rows(write_dataset: Write, size: int) -> None:
    dataset = write_dataset(train=[40], validation=[13])
    loaders = [
        JoinedLoader(dataset, "validation", global_batch_size=BATCH, rank=rank, size=size, seed=3)
        for rank in range(size)
    ]
    assert (len(loaders[0]), loaders[0].rows) == (3, 13 + 15)
    trained: list[int] = []
    for epoch in (0, 1):
        batches = list(zip(*(loader.epoch(epoch) for loader in loaders), strict=True))
        assert [sum(part.rows for part in parts) for parts in batches] == [10, 10, 8]
        assert [{part.global_rows for part in parts} for parts in batches] == [{10}, {10}, {8}]
        seen = Counter(row for parts in batches for part in parts for row in part.features["ids"][:, 0].tolist())
        seen.subtract(range(13))
        assert min(seen.values()) == 0
        trained += seen.elements()
    assert len(set(trained)) == len(trained) == 30


def test_joined_batches_are_the_same_for_any_number_of_ranks(write_dataset: Write) -> None:
    dataset = write_dataset(train=[40], validation=[13])

    def rows(size: int) -> list[list[float]]:
        loaders = [
            JoinedLoader(dataset, "validation", global_batch_size=BATCH, rank=rank, size=size) for rank in range(size)
        ]
        steps = zip(*(loader.epoch(1) for loader in loaders), strict=True)
        return [sorted(label for part in parts for label in part.label.tolist()) for parts in steps]

    assert rows(1) == rows(2) == rows(3)


def test_joined_batches_repeat_a_training_split_that_is_smaller_than_half_a_batch(write_dataset: Write) -> None:
    loader = JoinedLoader(write_dataset(train=[3], validation=[9]), "validation", global_batch_size=12)
    assert loader.rows == 9 + 2 * 3
    assert [batch.global_rows for batch in loader.epoch(0)] == [6 + 3, 3 + 3]
