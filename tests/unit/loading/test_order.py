from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.loading import ALGORITHM_VERSION, EpochOrder, slice_bounds

Row = tuple[int, int]

NARROW, FOUR_PER_RUN, WIDE = 132, 8192, 100_000
ROW_BYTES = st.sampled_from([4, NARROW, 1024, FOUR_PER_RUN, WIDE])
BLOCKS = st.lists(st.integers(1, 30), min_size=1, max_size=12).map(tuple)
BATCH = st.integers(1, 40)
TAIL = st.sampled_from(["weight", "drop"])
FEW = hypothesis_settings(max_examples=40, deadline=None)


def order_of(blocks: tuple[int, ...], batch: int, **changes: Any) -> EpochOrder:
    """Return the order of an epoch; by default, rows are so long that a run has four and windows do not mix them."""
    fields: dict[str, Any] = {
        "row_bytes": FOUR_PER_RUN,
        "tail": "weight",
        "digest": "d",
        "seed": 0,
        "epoch": 0,
        **changes,
    }
    return EpochOrder(block_rows=blocks, global_batch_size=batch, **fields)


def part(order: EpochOrder, step: int, start: int, stop: int) -> list[Row]:
    """Return the rows of a part of a batch, as (block, row)."""
    addresses = order.row_addresses(step, start, stop)
    return list(zip(addresses.block.tolist(), addresses.row.tolist(), strict=True))


def batches(order: EpochOrder, workers: int = 1) -> list[list[Row]]:
    """Return all global batches, assembled from the slices of the workers."""
    return [
        [
            row
            for rank in range(workers)
            for row in part(order, step, *slice_bounds(rank, workers, order.batch_rows(step)))
        ]
        for step in range(order.steps)
    ]


def all_rows(blocks: tuple[int, ...]) -> list[Row]:
    """Return every row of the split."""
    return [(block, row) for block, count in enumerate(blocks) for row in range(count)]


@given(BLOCKS, BATCH, ROW_BYTES)
@FEW
def test_an_epoch_contains_each_row_once(blocks: tuple[int, ...], batch: int, row_bytes: int) -> None:
    seen = [row for rows in batches(order_of(blocks, batch, row_bytes=row_bytes)) for row in rows]
    assert sorted(seen) == all_rows(blocks)


@given(BLOCKS, BATCH, ROW_BYTES)
@FEW
def test_without_the_tail_all_batches_are_full_and_no_row_is_repeated(
    blocks: tuple[int, ...], batch: int, row_bytes: int
) -> None:
    found = batches(order_of(blocks, batch, row_bytes=row_bytes, tail="drop"))
    assert all(len(rows) == batch for rows in found)
    assert len(found) == sum(blocks) // batch
    seen = [row for rows in found for row in rows]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(all_rows(blocks))


@given(BLOCKS, BATCH, ROW_BYTES)
@FEW
def test_the_tail_is_a_smaller_batch_at_the_end(blocks: tuple[int, ...], batch: int, row_bytes: int) -> None:
    order = order_of(blocks, batch, row_bytes=row_bytes)
    sizes = [len(rows) for rows in batches(order)]
    assert sizes == [order.batch_rows(step) for step in range(order.steps)]
    assert sizes[: order.full_steps] == [batch] * (sum(blocks) // batch)
    assert sum(sizes) == order.rows == sum(blocks)


@given(BLOCKS, BATCH, TAIL, ROW_BYTES)
@FEW
def test_the_batches_are_the_same_for_every_number_of_workers(
    blocks: tuple[int, ...], batch: int, tail: str, row_bytes: int
) -> None:
    alone = batches(order_of(blocks, batch, tail=tail, row_bytes=row_bytes))
    for workers in (2, 3, 5):
        assert batches(order_of(blocks, batch, tail=tail, row_bytes=row_bytes), workers) == alone


@given(BLOCKS, BATCH, ROW_BYTES, st.lists(st.integers(0, 10**6), min_size=1, max_size=10))
@FEW
def test_a_step_does_not_depend_on_earlier_queries(
    blocks: tuple[int, ...], batch: int, row_bytes: int, queries: list[int]
) -> None:
    expected = batches(order_of(blocks, batch, row_bytes=row_bytes))
    order = order_of(blocks, batch, row_bytes=row_bytes)
    for number in queries:
        step = number % order.steps
        assert part(order, step, 0, order.batch_rows(step)) == expected[step]
        fresh = order_of(blocks, batch, row_bytes=row_bytes)
        assert part(fresh, step, 0, fresh.batch_rows(step)) == expected[step]


@given(BLOCKS, BATCH, ROW_BYTES, st.data())
@FEW
def test_any_part_of_a_batch_equals_that_slice_of_the_whole_batch(
    blocks: tuple[int, ...], batch: int, row_bytes: int, data: st.DataObject
) -> None:
    order = order_of(blocks, batch, row_bytes=row_bytes)
    step = data.draw(st.integers(0, order.steps - 1))
    rows = order.batch_rows(step)
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    assert (
        part(order, step, start, stop) == part(order_of(blocks, batch, row_bytes=row_bytes), step, 0, rows)[start:stop]
    )


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"digest": "e"}, {"seed": -1}, {"epoch": 2**40}])
def test_another_seed_epoch_or_dataset_gives_a_different_order(change: dict[str, Any]) -> None:
    blocks = (20, 20, 20, 7)
    assert batches(order_of(blocks, 8)) == batches(order_of(blocks, 8))
    assert batches(order_of(blocks, 8, **change)) != batches(order_of(blocks, 8))


def test_seed_and_epoch_are_not_interchangeable() -> None:
    assert batches(order_of((20, 20), 8, seed=1)) != batches(order_of((20, 20), 8, epoch=1))
    assert batches(order_of((20, 20), 8, seed=1, epoch=11)) != batches(order_of((20, 20), 8, seed=11, epoch=1))


@pytest.mark.parametrize("blocks", [(10,), (5, 5), (3, 3, 3, 1)])
def test_different_rows_are_dropped_in_every_epoch(blocks: tuple[int, ...]) -> None:
    """No row is left out forever, even if the split has a single block."""
    seen: set[Row] = set()
    for epoch in range(60):
        seen |= {row for rows in batches(order_of(blocks, 4, tail="drop", epoch=epoch)) for row in rows}
    assert seen == set(all_rows(blocks))


def flat(order: EpochOrder, step: int) -> np.ndarray:
    """Return the rows of a global batch, numbered over all blocks, which have the same size."""
    addresses = order.row_addresses(step, 0, order.batch_rows(step))
    return addresses.block * order.block_rows[0] + addresses.row


def test_a_batch_of_narrow_rows_mixes_rows_from_hundreds_of_runs() -> None:
    """Measure, over a million rows of 132 bytes, how often neighbours on disk share a batch."""
    order = order_of((62_500,) * 16, 1024, row_bytes=NARROW)
    rows = [flat(order, step) for step in range(0, order.full_steps, 40)]
    assert min(len(set((batch // 62_500).tolist())) for batch in rows) >= 7
    assert min(len(set((batch // order.run_rows).tolist())) for batch in rows) > 200
    neighbours = [np.isin(batch + 1, batch).mean() for batch in rows]
    assert np.mean(neighbours) < 0.045  # 1 / 32 of all neighbours share the window's 32 steps
    assert max(neighbours) < 0.12
    assert max(np.mean(np.diff(batch) == 1) for batch in rows) < 0.01


def test_a_batch_of_wide_rows_consists_of_runs_from_many_blocks() -> None:
    order = order_of((2_700,) * 16, 1024, row_bytes=3076)
    rows = [flat(order, step) for step in range(order.full_steps)]
    assert order.run_rows == 8
    assert min(len(set((batch // order.run_rows).tolist())) for batch in rows) >= 128
    assert min(len(set((batch // 2_700).tolist())) for batch in rows) >= 7


def test_rows_of_a_batch_are_spread_over_many_batches_of_the_next_epoch() -> None:
    first, second = (order_of((6_000,) * 10, 256, row_bytes=NARROW, epoch=epoch) for epoch in (0, 1))
    batch_of = np.empty(60_000, dtype=int)
    for step in range(second.steps):
        batch_of[flat(second, step)] = step
    assert min(len(set(batch_of[flat(first, step)].tolist())) for step in range(first.full_steps)) > 60


def test_every_row_is_early_in_some_epochs_and_late_in_others() -> None:
    """If a lane ends inside a block, the preceding rows come late; with many blocks this hardly matters."""
    steps = np.empty((200, 1200))
    for epoch in range(200):
        order = order_of((20,) * 60, 40, row_bytes=FOUR_PER_RUN, epoch=epoch)
        for step in range(order.steps):
            steps[epoch, flat(order, step)] = step
    assert abs(steps.mean(axis=0) - 14.5).max() < 4
    assert steps.min(axis=0).max() <= 1
    assert steps.max(axis=0).min() >= 28


@pytest.mark.parametrize("row_bytes", [NARROW, FOUR_PER_RUN])
def test_blocks_are_announced_in_the_order_of_their_first_use(row_bytes: int) -> None:
    order = order_of((40, 40, 13, 40, 7, 40), 8, row_bytes=row_bytes)
    for first_step in (0, 3, order.steps - 1):
        announced = order.blocks_in_order(first_step)
        assert len(set(announced)) == len(announced)
        used = [
            set(order.row_addresses(step, 0, order.batch_rows(step)).block.tolist())
            for step in range(first_step, order.steps)
        ]
        assert set().union(*used) <= set(announced)
    assert set(order.blocks_in_order()) == set(range(6))


@pytest.mark.parametrize(
    ("row_bytes", "batch", "run_rows", "window_steps"),
    [(132, 1024, 128, 32), (132, 16, 128, 64), (132, 65_536, 128, 4), (3076, 1024, 8, 1), (1_000_000, 8, 1, 1)],
)
def test_runs_and_windows_depend_on_the_size_of_a_row(
    row_bytes: int, batch: int, run_rows: int, window_steps: int
) -> None:
    order = order_of((1000,), batch, row_bytes=row_bytes)
    assert (order.run_rows, order.window_steps) == (run_rows, window_steps)


def test_orders_match_recorded_values() -> None:
    """Resumed trainings depend on these orders. A different order needs a new ALGORITHM_VERSION."""
    assert ALGORITHM_VERSION == 2
    narrow, wide = order_of((50, 50, 20), 8, row_bytes=NARROW), order_of((50, 50, 20), 8)
    assert [flat(narrow, 3).tolist(), flat(wide, 3).tolist(), flat(wide, 14).tolist()] == GOLDEN


GOLDEN = [[65, 80, 95, 110, 5, 20, 35, 50], [71, 86, 97, 112, 11, 26, 41, 52], [78, 93, 108, 3, 18, 33, 48, 63]]


def test_fewer_rows_than_a_batch_make_one_small_batch_or_none() -> None:
    assert [len(rows) for rows in batches(order_of((3,), 10))] == [3]
    assert batches(order_of((3,), 10, tail="drop")) == []


def test_a_split_without_rows_has_no_steps() -> None:
    assert order_of((), 4).steps == 0


def test_a_step_outside_the_epoch_is_a_bug() -> None:
    order = order_of((8,), 4)
    for step in (-1, 2):
        with pytest.raises(AssertionError, match=r"of 2"):
            order.row_addresses(step, 0, 4)
