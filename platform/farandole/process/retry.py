"""Retries with exponential backoff."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """Pauses that double from failure to failure.

    Args:
        first_s: The longest pause after the first failure, in seconds.
        longest_s: No pause is longer than this.
        jitter: The share of a pause that is left to chance, from 0 to 1, so that clients of one server do not come back
            together (M. Brooker: "Exponential backoff and jitter", AWS architecture blog, 2015).
    """

    first_s: float
    longest_s: float
    jitter: float = 0.0

    def pause_s(self, failures: int) -> float:
        """Return the pause after a number of failures in a row, at least one."""
        longest = min(self.first_s * 2.0 ** min(failures - 1, 60), self.longest_s)
        return longest * (1.0 - self.jitter * random.random())


def retry(
    action: Callable[[], T],
    backoff: Backoff,
    give_up: Callable[[Exception, int, float], Exception | None],
    *,
    errors: tuple[type[Exception], ...] = (Exception,),
) -> T:
    """Call a function until it returns.

    Args:
        action: The function.
        backoff: The pauses between two calls.
        give_up: Takes an error, the number of failures so far, and the seconds since the first call including the
            pause that would follow. Returns the exception to raise, which may be the error itself; None: try again.
        errors: What counts as a failure; anything else is raised at once.
    """
    started_s, failures = time.monotonic(), 0
    while True:
        try:
            return action()
        except errors as error:
            failures += 1
            pause_s = backoff.pause_s(failures)
            raised = give_up(error, failures, time.monotonic() - started_s + pause_s)
            if raised is error:
                raise
            if raised is not None:
                raise raised from error
        time.sleep(pause_s)
