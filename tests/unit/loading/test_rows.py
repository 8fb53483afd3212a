"""The loader's inner loops in C, compared with NumPy."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.loading import rows

WIDTHS = st.integers(1, 200)


def block_of(num_rows: int, width: int) -> np.ndarray:
    """Return random bytes `[rows, width]`."""
    return np.random.default_rng(width).integers(0, 256, (num_rows, width), np.uint8)


@given(width=WIDTHS, group=st.integers(1, 5), firsts=st.lists(st.integers(0, 20), max_size=6))
def test_groups_of_consecutive_rows_are_copied_in_order(width: int, group: int, firsts: list[int]) -> None:
    block = block_of(25, width)
    target = np.zeros((len(firsts) * group + 1, width), np.uint8)
    rows.copy([([block], np.array(firsts, np.int64), group)], [width], [target])
    wanted = [block[first : first + group] for first in firsts]
    assert (target[:-1] == np.concatenate([np.empty((0, width), np.uint8), *wanted])).all()
    assert not target[-1].any()  # nothing is written beyond the rows


def test_parts_of_several_blocks_are_copied_column_by_column() -> None:
    blocks = [[block_of(10, 16) + number, block_of(10, 4) + number] for number in range(3)]
    parts = [
        (blocks[0], np.array([4, 0], np.int64), 2),
        (blocks[1], np.array([9], np.int64), 1),
        (blocks[2], np.array([1]), 5),
    ]
    targets = [np.zeros((10, 16), np.uint8), np.zeros((10, 4), np.uint8)]
    rows.copy(parts, [16, 4], targets)
    for column, target in enumerate(targets):
        first, second, third = (block[column] for block in blocks)
        assert (target == np.concatenate([first[4:6], first[0:2], second[9:], third[1:6]])).all()


def test_a_part_that_does_not_fit_the_rest_of_the_target_is_rejected() -> None:
    part = ([block_of(5, 8)], np.zeros(1, np.int64), 3)
    with pytest.raises(IndexError):
        rows.copy([part, part], [8], [np.zeros((5, 8), np.uint8)])


def test_different_numbers_of_columns_and_targets_are_rejected() -> None:
    block, firsts = block_of(5, 8), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="a part has 1 columns for 2 targets"):
        rows.copy([([block], firsts, 1)], [8, 8], [block.copy(), block.copy()])
    with pytest.raises(ValueError, match="a part has 2 columns for 1 targets"):
        rows.copy([([block, block], firsts, 1)], [8], [block.copy()])
    with pytest.raises(ValueError, match="2 sizes of rows for 1 targets"):
        rows.copy([([block], firsts, 1)], [8, 8], [block.copy()])


@pytest.mark.parametrize("part", [[], ([], None), ((), None, 1), ([], None, 1.0), ([], None, None)])
def test_a_malformed_part_is_rejected(part: Any) -> None:
    with pytest.raises(TypeError, match="a part is a tuple of a list of columns, first rows and a number of rows"):
        rows.copy([part], [8], [block_of(5, 8)])


def test_lists_may_change_while_rows_are_copied() -> None:
    """The GIL is released during the copy, so another thread may run."""

    class Growing(int):
        def __index__(self) -> int:
            parts.extend([([block], firsts, 1)] * 1000)
            return 1

    block, firsts = block_of(5, 8), np.zeros(1, np.int64)
    parts: list[Any] = [([block], firsts, Growing(1))] * 3
    target = np.zeros((5, 8), np.uint8)
    rows.copy(parts, [8], [target])
    assert (target[:3] == block[0]).all()
    sizes, wide = [10_000_000, 8], np.zeros((1, 10_000_000), np.uint8)
    cleared = threading.Thread(target=sizes.clear)
    cleared.start()
    refused = ""
    try:
        rows.copy([([wide, block], firsts, 1)], sizes, [wide.copy(), target])
    except ValueError as error:
        refused = str(error)
    cleared.join()
    assert refused in ("", "0 sizes of rows for 2 targets")  # the other thread may have been faster
    assert sizes == []


@given(width=WIDTHS, chosen=st.lists(st.integers(0, 24), max_size=60))
def test_single_rows_are_gathered(width: int, chosen: list[int]) -> None:
    pool = block_of(25, width)
    target = np.zeros((len(chosen) + 1, width), np.uint8)
    rows.choose(pool, np.array(chosen, np.int32), width, target)
    assert (target[:-1] == pool[np.array(chosen, np.int64)]).all()
    assert not target[-1].any()


@pytest.mark.parametrize(
    ("firsts", "group", "room"),
    [([-1], 1, 5), ([5], 1, 5), ([4], 2, 5), ([0, 3], 2, 3), ([2**62], 1, 5), ([0], 6, 10), ([0], -1, 5), ([0], 0, 5)],
)
def test_a_group_outside_the_block_or_the_target_is_rejected(firsts: list[int], group: int, room: int) -> None:
    with pytest.raises(IndexError, match="outside of its block"):
        rows.copy([([block_of(5, 8)], np.array(firsts, np.int64), group)], [8], [np.zeros((room, 8), np.uint8)])


@pytest.mark.parametrize(("chosen", "room"), [([-1], 5), ([5], 5), ([0, 1, 2], 2), ([-(2**31)], 5), ([2**31 - 1], 5)])
def test_a_row_outside_the_pool_or_the_target_is_rejected(chosen: list[int], room: int) -> None:
    with pytest.raises(IndexError, match="outside of its block"):
        rows.choose(block_of(5, 8), np.array(chosen, np.int32), 8, np.zeros((room, 8), np.uint8))


def test_a_row_size_of_zero_is_rejected() -> None:
    empty = np.empty((0, 1), np.uint8)
    with pytest.raises(IndexError):
        rows.copy([([empty], np.zeros(1, np.int64), 1)], [0], [empty])
    with pytest.raises(IndexError):
        rows.choose(empty, np.zeros(1, np.int32), 0, empty)


def test_memory_that_is_not_contiguous_or_not_writable_is_rejected() -> None:
    block, target = block_of(8, 8), np.zeros((8, 8), np.uint8)
    chosen = np.zeros(1, np.int32)
    with pytest.raises((BufferError, ValueError)):
        rows.choose(block[:, ::2], chosen, 4, target)
    target.flags.writeable = False
    with pytest.raises((BufferError, TypeError)):
        rows.choose(block, chosen, 8, target)


def test_no_buffer_stays_acquired() -> None:
    block, target, firsts = block_of(8, 8), np.zeros((8, 8), np.uint8), np.array([9], np.int64)
    before = sys.getrefcount(block), sys.getrefcount(target), sys.getrefcount(firsts)
    for _ in range(10):
        rows.copy([([block], np.zeros(1, np.int64), 1)], [8], [target])
        with pytest.raises(IndexError):
            rows.copy([([block], np.zeros(1, np.int64), 1), ([block], firsts, 1)], [8], [target])
        with pytest.raises(TypeError):
            rows.copy([([block], np.zeros(1, np.int64), 1), ([block], firsts)], [8], [target])  # type: ignore[list-item]
        with pytest.raises((BufferError, TypeError)):
            rows.copy([([block], None, 1)], [8], [target])
    assert (sys.getrefcount(block), sys.getrefcount(target), sys.getrefcount(firsts)) == before


@given(words=st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1]), max_size=300))
def test_indices_are_sorted_by_their_words(words: list[int]) -> None:
    found = np.array(words, np.uint64)
    low = (1 << len(words).bit_length()) - 1
    rows.permute(found)
    wanted = sorted(range(len(words)), key=lambda index: (words[index] & ~low, index))
    assert found.tolist() == wanted


@pytest.mark.parametrize("count", [4096, 100_000, 300_001])
def test_many_indices_are_sorted_as_numpy_sorts_them(count: int) -> None:
    words = np.random.default_rng(count).integers(0, 2**64, count, np.uint64)
    low = np.uint64((1 << count.bit_length()) - 1)
    wanted = np.sort((words & ~low) | np.arange(count, dtype=np.uint64)) & low
    rows.permute(words)
    assert (words == wanted).all()


@pytest.mark.parametrize("groups", range(10))
@pytest.mark.parametrize("row_bytes", [4, 60, 64, 128, 200])
def test_any_number_of_groups_is_copied_concurrently(groups: int, row_bytes: int) -> None:
    block, target = block_of(100, row_bytes), np.zeros((groups * 3, row_bytes), np.uint8)
    firsts = np.array([(group * 37) % 98 for group in range(groups)], np.int64)
    rows.copy([([block], firsts, 3)], [row_bytes], [target])
    assert (target.reshape(groups, 3, row_bytes) == block[firsts[:, None] + np.arange(3)]).all()


@pytest.mark.parametrize("row_bytes", [1, 4, 8, 64, 128, 256, 320])
def test_every_row_size_with_a_specialized_loop_is_gathered(row_bytes: int) -> None:
    pool, target = block_of(500, row_bytes), np.zeros((400, row_bytes), np.uint8)
    chosen = np.random.default_rng(1).integers(0, 500, 400, np.int32)
    rows.choose(pool, chosen, row_bytes, target)
    assert (target == pool[chosen]).all()
