"""Dynamic batches: requests that wait at the same time are computed together.

A batch is formed when the previous one has been computed, of everything that has arrived since. So a lone request never
waits for others, and under load batches grow by themselves. A delay above 0 makes an idle batcher wait for more, which
pays where a larger batch costs hardly more than a small one, as on a GPU.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from farandole.serving.service.errors import deadline_passed, queue_full

Request = TypeVar("Request")
Answer = TypeVar("Answer")

_FIRST_RATE = 1000.0
"""Rows a second that are assumed before the first batch."""
_WEIGHT = 0.2
"""Weight of the newest batch in the mean rate."""
_ANSWER_TURNS = 3
"""Turns of the event loop until the answers of a batch have left: handlers continue, audit lines are written, handlers
send. A batch that is computed in the loop before that would delay all of them by its own time."""


@dataclass(frozen=True)
class BatchLimits:
    """Sizes and times of batches.

    Args:
        max_rows: Rows of a batch; a larger request is a batch of its own.
        delay_s: How long an idle batcher waits for more rows, in seconds.
        queue_rows: Rows that may wait; further requests are refused.
        deadline_s: Time from arrival to answer, in seconds.
    """

    max_rows: int = 64
    delay_s: float = 0.0
    queue_rows: int = 4096
    deadline_s: float = 10.0


class _Waiting(Generic[Request, Answer]):
    __slots__ = ("future", "request", "rows", "timer")

    def __init__(self, request: Request, rows: int, future: asyncio.Future[Answer]) -> None:
        self.request, self.rows, self.future = request, rows, future
        self.timer: asyncio.TimerHandle | None = None


class Batcher(Generic[Request, Answer]):
    """Queue of one model in one process. All methods run in the thread of the event loop.

    Args:
        compute: Takes requests and returns for each an answer or the exception that is its alone.
        limits: Sizes and times.
        executor: Where batches are computed; None: in the event loop, which then does nothing else.
        on_batch: Is called after each batch with its rows, its seconds, and the rows that wait.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Request]], Sequence[Answer | Exception]],
        limits: BatchLimits,
        executor: Executor | None = None,
        on_batch: Callable[[int, float, int], None] | None = None,
    ) -> None:
        self._compute, self.limits, self._executor, self._on_batch = compute, limits, executor, on_batch
        self._waiting: deque[_Waiting[Request, Answer]] = deque()
        self._queued_rows = 0
        self._rate = _FIRST_RATE
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._is_busy = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def queued_rows(self) -> int:
        """The number of rows that wait."""
        return self._queued_rows

    def submit(self, request: Request, rows: int) -> asyncio.Future[Answer]:
        """Queue a request.

        Args:
            request: What `compute` takes.
            rows: Its number of rows.

        Returns:
            The future answer; cancelling it removes the request from the queue.

        Raises:
            RequestError: The queue is full.
        """
        if self._waiting and self._queued_rows + rows > self.limits.queue_rows:
            raise queue_full(self._queued_rows / self._rate)
        entry = _Waiting(request, rows, self._loop.create_future())
        entry.timer = self._loop.call_later(self.limits.deadline_s, self._expire, entry)
        self._waiting.append(entry)
        self._queued_rows += rows
        self._idle.clear()
        self._schedule()
        return entry.future

    async def drain(self) -> None:
        """Return once nothing waits and nothing is computed."""
        await self._idle.wait()

    def _expire(self, entry: _Waiting[Request, Answer]) -> None:
        if not entry.future.done():
            entry.future.set_exception(deadline_passed(self.limits.deadline_s))

    def _schedule(self) -> None:
        if self._is_busy:
            return
        is_full = self._queued_rows >= self.limits.max_rows
        if self._timer is None:
            delay_s = 0.0 if is_full else self.limits.delay_s
            # even without a delay, requests of this round of the loop come first
            self._timer = self._loop.call_later(delay_s, self._start) if delay_s else self._loop.call_soon(self._start)
        elif is_full and self.limits.delay_s:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._timer = None
        batch = self._next_batch()
        if not batch:
            self._idle.set()
            return
        self._is_busy = True
        requests = [entry.request for entry in batch]
        if self._executor is None:
            self._finish(batch, *self._timed(requests))
            return
        running = self._loop.run_in_executor(self._executor, self._timed, requests)
        running.add_done_callback(lambda done: self._finish(batch, *done.result()))

    def _next_batch(self) -> list[_Waiting[Request, Answer]]:
        """Take requests from the queue, without those that were answered or cancelled meanwhile."""
        batch: list[_Waiting[Request, Answer]] = []
        rows = 0
        while self._waiting and (not batch or rows + self._waiting[0].rows <= self.limits.max_rows):
            entry = self._waiting.popleft()
            self._queued_rows -= entry.rows
            if entry.future.done():
                self._cancel_timer(entry)
                continue
            batch.append(entry)
            rows += entry.rows
        return batch

    def _timed(self, requests: list[Request]) -> tuple[Sequence[Answer | Exception], float]:
        started_s = time.perf_counter()
        try:
            answers: Sequence[Answer | Exception] = self._compute(requests)
        except Exception as error:  # noqa: BLE001 - every caller of the batch receives it
            answers = [error] * len(requests)
        return answers, time.perf_counter() - started_s

    def _finish(
        self, batch: list[_Waiting[Request, Answer]], answers: Sequence[Answer | Exception], seconds: float
    ) -> None:
        rows = 0
        for entry, answer in zip(batch, answers, strict=True):
            rows += entry.rows
            self._cancel_timer(entry)
            if entry.future.done():
                continue
            if isinstance(answer, Exception):
                entry.future.set_exception(answer)
            else:
                entry.future.set_result(answer)
        self._rate += _WEIGHT * (rows / max(seconds, 1e-6) - self._rate)
        self._is_busy = False
        if not self._waiting:
            self._idle.set()
        if self._waiting or not self.limits.delay_s:
            self._schedule_next()
        if self._on_batch is not None:
            self._on_batch(rows, seconds, self._queued_rows)

    def _schedule_next(self, turns: int = _ANSWER_TURNS) -> None:
        """Start the next batch after the answers of this one have left."""
        if turns == 0:
            self._timer = self._loop.call_soon(self._start)
        else:
            self._timer = self._loop.call_soon(self._schedule_next, turns - 1)

    @staticmethod
    def _cancel_timer(entry: _Waiting[Request, Answer]) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
