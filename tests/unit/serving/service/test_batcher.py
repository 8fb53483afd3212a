from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.serving.service.batcher import Batcher, BatchLimits
from farandole.serving.service.errors import RequestError


class Doubler:
    """Doubles numbers, rejects negative ones, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def compute(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.may_go.wait(60)
        self.batches.append(list(numbers))
        return [number * 2 if number >= 0 else ValueError(f"{number} is negative") for number in numbers]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_requests_of_one_moment_are_one_batch() -> None:
    doubler = Doubler()

    async def ask() -> list[int]:
        batcher = Batcher(doubler.compute, BatchLimits())
        return await asyncio.gather(*(batcher.submit(number, 1) for number in range(5)))

    assert run(ask()) == [0, 2, 4, 6, 8]
    assert doubler.batches == [[0, 1, 2, 3, 4]]


def test_answers_leave_before_the_next_batch_is_computed() -> None:
    """A handler needs two more turns of the loop: one until its audit line is written, one to send."""
    order: list[str] = []

    def compute(numbers: Sequence[int]) -> list[int | Exception]:
        order.append(f"batch {list(numbers)}")
        return list(numbers)

    async def handle(batcher: Batcher[int, int], number: int) -> None:
        await batcher.submit(number, 1)
        for _ in range(2):
            await asyncio.sleep(0)
        order.append(f"answer {number}")

    async def ask() -> None:
        batcher = Batcher(compute, BatchLimits(max_rows=2))
        await asyncio.gather(*(handle(batcher, number) for number in range(4)))

    run(ask())
    assert order == ["batch [0, 1]", "answer 0", "answer 1", "batch [2, 3]", "answer 2", "answer 3"]


def test_requests_that_arrive_during_a_batch_are_the_next_one() -> None:
    doubler = Doubler()
    doubler.may_go.clear()

    async def ask() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(doubler.compute, BatchLimits(), executor)
            futures = [batcher.submit(0, 1)]
            while batcher.queued_rows:
                await asyncio.sleep(0)
            futures += [batcher.submit(number, 1) for number in (1, 2, 3)]
            assert [batcher.queued_rows] == [3]
            doubler.may_go.set()
            await asyncio.gather(*futures)

    run(ask())
    assert doubler.batches == [[0], [1, 2, 3]]


@given(rows=st.lists(st.integers(1, 9), min_size=1, max_size=30), max_rows=st.integers(1, 8))
def test_no_batch_has_more_rows_than_allowed_unless_one_request_has(rows: list[int], max_rows: int) -> None:
    doubler = Doubler()

    async def ask() -> list[int]:
        batcher = Batcher(doubler.compute, BatchLimits(max_rows))
        return await asyncio.gather(*(batcher.submit(count, count) for count in rows))

    assert run(ask()) == [count * 2 for count in rows]
    assert [count for batch in doubler.batches for count in batch] == rows
    assert all(sum(batch) <= max_rows or len(batch) == 1 for batch in doubler.batches)


def test_only_the_wrong_request_of_a_batch_fails() -> None:
    async def ask() -> list[Any]:
        batcher = Batcher(Doubler().compute, BatchLimits())
        return await asyncio.gather(*(batcher.submit(number, 1) for number in (1, -1, 2)), return_exceptions=True)

    first, second, third = run(ask())
    assert (first, third) == (2, 4)
    assert str(second) == "-1 is negative"


def test_error_of_a_whole_batch_reaches_every_caller_and_the_next_batch_is_computed() -> None:
    def fail_once(numbers: Sequence[int]) -> list[int | Exception]:
        if 0 in numbers:
            raise ZeroDivisionError("zero")
        return list(numbers)

    async def ask() -> tuple[Any, int]:
        batcher = Batcher(fail_once, BatchLimits())
        failed = await asyncio.gather(batcher.submit(0, 1), batcher.submit(1, 1), return_exceptions=True)
        return failed, await batcher.submit(1, 1)

    failed, found = run(ask())
    assert [type(each) for each in failed] == [ZeroDivisionError] * 2
    assert found == 1


def test_full_queue_refuses_and_says_when_to_come_back() -> None:
    doubler = Doubler()
    doubler.may_go.clear()

    async def ask() -> RequestError:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(doubler.compute, BatchLimits(queue_rows=3), executor)
            futures = [batcher.submit(0, 1)]
            while batcher.queued_rows:
                await asyncio.sleep(0)
            futures += [batcher.submit(number, 1) for number in range(3)]
            with pytest.raises(RequestError) as refused:
                batcher.submit(3, 1)
            doubler.may_go.set()
            await asyncio.gather(*futures)
            return refused.value

    error = run(ask())
    assert (error.status, error.kind) == (429, "queue_full")
    assert int(error.headers["retry-after"]) >= 1


def test_request_larger_than_the_queue_is_accepted_by_an_empty_one() -> None:
    async def ask() -> int:
        return await Batcher(Doubler().compute, BatchLimits(queue_rows=3)).submit(21, 100)

    assert run(ask()) == 42


def test_request_that_waits_too_long_fails_and_is_not_computed() -> None:
    doubler = Doubler()
    doubler.may_go.clear()

    async def ask() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(doubler.compute, BatchLimits(deadline_s=1.0), executor)
            futures = [batcher.submit(0, 1)]
            while batcher.queued_rows:
                await asyncio.sleep(0)
            batcher.limits = BatchLimits(deadline_s=0.05)  # the first one has begun
            futures.append(batcher.submit(1, 1))
            errors = await asyncio.gather(*futures, return_exceptions=True)
            assert [error.status for error in errors if isinstance(error, RequestError)] == [504, 504]
            doubler.may_go.set()
            await batcher.drain()

    run(ask())
    assert doubler.batches == [[0]]


def test_cancelled_request_leaves_the_queue() -> None:
    doubler = Doubler()

    async def ask() -> int:
        batcher = Batcher(doubler.compute, BatchLimits())
        batcher.submit(1, 1).cancel()
        return await batcher.submit(2, 1)

    assert run(ask()) == 4
    assert doubler.batches == [[2]]


def test_delay_waits_for_more_rows_until_the_batch_is_full() -> None:
    doubler = Doubler()

    async def ask() -> None:
        batcher = Batcher(doubler.compute, BatchLimits(max_rows=3, delay_s=30.0))
        futures = [batcher.submit(0, 1)]
        await asyncio.sleep(0.01)
        assert doubler.batches == []
        futures += [batcher.submit(1, 1), batcher.submit(2, 1)]
        await asyncio.gather(*futures)

    run(ask())
    assert doubler.batches == [[0, 1, 2]]


def test_drain_returns_after_the_last_answer() -> None:
    async def ask() -> bool:
        batcher = Batcher(Doubler().compute, BatchLimits())
        await batcher.drain()
        future = batcher.submit(1, 1)
        await batcher.drain()
        return future.done()

    assert run(ask())


def test_batches_are_reported_with_their_rows() -> None:
    reports: list[tuple[int, int]] = []

    async def ask() -> None:
        batcher = Batcher(
            Doubler().compute, BatchLimits(), on_batch=lambda rows, seconds, queued: reports.append((rows, queued))
        )
        await asyncio.gather(batcher.submit(1, 3), batcher.submit(2, 4))

    run(ask())
    assert reports == [(7, 0)]
