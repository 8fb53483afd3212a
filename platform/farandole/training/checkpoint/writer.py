"""The thread that writes, so that the step need not wait for the disk."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

_NICE = 10
"""How much of its turn the writer leaves to those who compute. Much more would be unwise: for moments it holds Python's
lock, and a thread that hardly ever runs would keep the others waiting for it."""


class BackgroundWriter:
    """Does one piece of work at a time, in a thread of low priority.

    Args:
        asynchronous: False: `start` does the work itself.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether it still works."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], object]) -> None:
        """Begin a piece of work; wait for the one before.

        Raises:
            BaseException: What the one before raised, or this one, where it is not asynchronous.
        """
        self.finish()
        if not self._asynchronous:
            work()
            return
        self._thread = threading.Thread(target=self._work, args=(work,), name="farandole-checkpoint", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the work raised, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait until the work is done, or for so long.

        Raises:
            BaseException: What it raised.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
        self.check()

    def _work(self, work: Callable[[], object]) -> None:
        if sys.platform == "linux":  # elsewhere this would be the priority of the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + _NICE)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that computes
            self._failure = error
