from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from farandole.loading import Batch
from farandole.loading.prefetch import prefetch
from tests.support.numbered_rows import batch_of, loader_threads


def test_prefetched_batches_are_unchanged() -> None:
    made = [batch_of(number) for number in range(50)]
    assert list(prefetch(iter(made))) == made
    assert loader_threads() == []


def test_an_exception_in_the_thread_is_raised_after_the_preceding_batches() -> None:
    def fail() -> Iterator[Batch]:
        yield batch_of(0)
        yield batch_of(1)
        raise OSError(5, "the disk is gone")

    batches = prefetch(fail())
    assert [int(next(batches).label[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert loader_threads() == []


def test_closing_the_iterator_ends_the_thread() -> None:
    made: list[int] = []

    def endless() -> Iterator[Batch]:
        while True:
            made.append(len(made))
            yield batch_of(len(made))

    batches = prefetch(endless(), depth=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert loader_threads() == []
    assert len(made) <= 5


def test_the_thread_prepares_only_a_few_batches() -> None:
    made: list[int] = []

    def slow_caller() -> Iterator[Batch]:
        for number in range(20):
            made.append(number)
            yield batch_of(number)

    batches = prefetch(slow_caller(), depth=2)
    next(batches)
    time.sleep(0.3)
    assert len(made) <= 4
    assert len(list(batches)) == 19
