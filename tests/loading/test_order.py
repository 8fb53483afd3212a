from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.loading import EpochOrder, slice_of

Row = tuple[int, int]

BLOCKS = st.lists(st.integers(1, 30), min_size=1, max_size=12).map(tuple)
BATCH = st.integers(1, 40)
TAIL = st.sampled_from(["weight", "drop"])
FEW = hypothesis_settings(max_examples=40, deadline=None)


def order_of(blocks: tuple[int, ...], batch: int, **changes: Any) -> EpochOrder:
    """The order of an epoch."""
    fields: dict[str, Any] = {"tail": "weight", "digest": "d", "seed": 0, "epoch": 0, **changes}
    return EpochOrder(blocks, batch, **fields)


def part(order: EpochOrder, step: int, start: int, stop: int) -> list[Row]:
    """Rows of a part of a batch, as (block, row)."""
    places = order.places(step, start, stop)
    return list(zip(places.block.tolist(), places.row.tolist(), strict=True))


def batches(order: EpochOrder, workers: int = 1) -> list[list[Row]]:
    """All global batches, put together from what each worker takes."""
    return [
        [row for rank in range(workers) for row in part(order, step, *slice_of(rank, workers, order.batch_rows(step)))]
        for step in range(order.steps)
    ]


def all_rows(blocks: tuple[int, ...]) -> list[Row]:
    """Every row of the split."""
    return [(block, row) for block, count in enumerate(blocks) for row in range(count)]


@given(BLOCKS, BATCH)
@FEW
def test_an_epoch_holds_each_row_once(blocks: tuple[int, ...], batch: int) -> None:
    seen = [row for rows in batches(order_of(blocks, batch)) for row in rows]
    assert sorted(seen) == all_rows(blocks)


@given(BLOCKS, BATCH)
@FEW
def test_without_the_tail_no_row_comes_twice_and_all_batches_are_full(blocks: tuple[int, ...], batch: int) -> None:
    found = batches(order_of(blocks, batch, tail="drop"))
    assert all(len(rows) == batch for rows in found)
    assert len(found) == sum(blocks) // batch
    seen = [row for rows in found for row in rows]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(all_rows(blocks))


@given(BLOCKS, BATCH)
@FEW
def test_the_tail_is_one_smaller_batch_at_the_end(blocks: tuple[int, ...], batch: int) -> None:
    order = order_of(blocks, batch)
    sizes = [len(rows) for rows in batches(order)]
    assert sizes == [order.batch_rows(step) for step in range(order.steps)]
    assert sizes[: order.full_steps] == [batch] * (sum(blocks) // batch)
    assert sum(sizes) == order.rows == sum(blocks)


@given(BLOCKS, BATCH, TAIL)
@FEW
def test_the_batches_are_the_same_for_every_number_of_workers(blocks: tuple[int, ...], batch: int, tail: str) -> None:
    alone = batches(order_of(blocks, batch, tail=tail))
    for workers in (2, 3, 5):
        assert batches(order_of(blocks, batch, tail=tail), workers) == alone


@given(BLOCKS, BATCH, st.lists(st.integers(0, 10**6), min_size=1, max_size=10))
@FEW
def test_a_step_does_not_depend_on_the_steps_that_were_asked_before(
    blocks: tuple[int, ...], batch: int, asked: list[int]
) -> None:
    expected = batches(order_of(blocks, batch))
    order = order_of(blocks, batch)
    for number in asked:
        step = number % order.steps
        assert part(order, step, 0, order.batch_rows(step)) == expected[step]
        fresh = order_of(blocks, batch)
        assert part(fresh, step, 0, fresh.batch_rows(step)) == expected[step]


@given(BLOCKS, BATCH, st.data())
@FEW
def test_any_part_of_a_batch_is_that_part_of_the_whole(
    blocks: tuple[int, ...], batch: int, data: st.DataObject
) -> None:
    order = order_of(blocks, batch)
    step = data.draw(st.integers(0, order.steps - 1))
    rows = order.batch_rows(step)
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    assert part(order, step, start, stop) == part(order_of(blocks, batch), step, 0, rows)[start:stop]


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"digest": "e"}, {"seed": -1}, {"epoch": 2**40}])
def test_another_seed_epoch_or_dataset_gives_another_order(change: dict[str, Any]) -> None:
    blocks = (20, 20, 20, 7)
    assert batches(order_of(blocks, 8)) == batches(order_of(blocks, 8))
    assert batches(order_of(blocks, 8, **change)) != batches(order_of(blocks, 8))


def test_seed_and_epoch_are_not_interchangeable() -> None:
    assert batches(order_of((20, 20), 8, seed=1)) != batches(order_of((20, 20), 8, epoch=1))
    assert batches(order_of((20, 20), 8, seed=1, epoch=11)) != batches(order_of((20, 20), 8, seed=11, epoch=1))


@pytest.mark.parametrize("blocks", [(10,), (5, 5), (3, 3, 3, 1)])
def test_dropped_rows_are_others_in_every_epoch(blocks: tuple[int, ...]) -> None:
    """No row is left out for ever, also where the split has one block only."""
    seen: set[Row] = set()
    for epoch in range(60):
        seen |= {row for rows in batches(order_of(blocks, 4, tail="drop", epoch=epoch)) for row in rows}
    assert seen == set(all_rows(blocks))


def test_a_batch_mixes_rows_of_many_blocks() -> None:
    blocks = (64,) * 40
    mixed = [len({block for block, _ in rows}) for rows in batches(order_of(blocks, 64))]
    assert np.mean(mixed) > 12


def test_rows_do_not_keep_the_neighbours_that_they_have_on_disk() -> None:
    rows = [row for batch in batches(order_of((256,) * 4, 32)) for row in batch]
    neighbours = sum(first[0] == second[0] and second[1] == first[1] + 1 for first, second in itertools.pairwise(rows))
    assert neighbours < len(rows) * 0.05


def test_fewer_rows_than_a_batch_are_one_small_batch_or_none() -> None:
    assert [len(rows) for rows in batches(order_of((3,), 10))] == [3]
    assert batches(order_of((3,), 10, tail="drop")) == []


def test_a_split_without_rows_has_no_steps() -> None:
    assert order_of((), 4).steps == 0


def test_only_steps_of_the_epoch_can_be_asked() -> None:
    order = order_of((8,), 4)
    for step in (-1, 2):
        with pytest.raises(AssertionError, match=r"of 2"):
            order.places(step, 0, 4)
