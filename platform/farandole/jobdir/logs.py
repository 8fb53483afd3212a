"""Lines of logs, also while they are being written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from farandole.jobdir.layout import LOG, attempt_logs, worker_log

_POLL_S = 0.2
_ASK_EVERY_S = 1.0
"""Asking whether the job has ended costs more than checking whether a file has grown."""


def read_job_log(directory: Path, has_ended: Callable[[], bool] | None) -> Iterator[str]:
    """Yield the lines of a job's own log, over all its starts.

    Args:
        directory: The job's directory.
        has_ended: Follow the log until this returns true. Default: what is there now.
    """
    yield from _lines(directory / LOG, _Follower(has_ended), lambda: False)


def read_rank_log(directory: Path, rank: int, has_ended: Callable[[], bool] | None) -> Iterator[str]:
    """Yield the lines that one worker wrote, over all attempts.

    Args:
        directory: The job's directory.
        rank: The worker.
        has_ended: Follow the logs until this returns true. Default: what is there now.
    """
    number, follower = 1, _Follower(has_ended)
    while True:
        has_next = attempt_logs(directory, number + 1).is_dir
        yield from _lines(worker_log(attempt_logs(directory, number), rank), follower, has_next)
        if not has_next():
            return
        number += 1


class _Follower:
    """Wait of a reader for more lines, until the job has ended."""

    def __init__(self, has_ended: Callable[[], bool] | None) -> None:
        self._has_ended = has_ended
        self._asked_s = 0.0
        self.is_done = has_ended is None

    def wait(self) -> None:
        """Wait briefly, and ask now and then whether the job has ended; earlier lines can still be read after that."""
        now_s = time.monotonic()
        if self._has_ended is not None and now_s - self._asked_s >= _ASK_EVERY_S:
            self._asked_s = now_s
            self.is_done = self._has_ended()
        if not self.is_done:
            time.sleep(_POLL_S)


def _lines(path: Path, follower: _Follower, is_closed: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines of a file that may not exist yet, and grows until it is closed or the job has ended."""
    while not path.exists():
        if is_closed() or follower.is_done:
            return
        follower.wait()
    with closing(path.open("rb")) as file:
        rest = b""
        while True:
            last = follower.is_done or is_closed()  # asked before the reading: nothing is added afterwards
            for line in _read(file):
                rest += line
                if rest.endswith(b"\n"):
                    yield _text(rest)
                    rest = b""
            if last:
                break
            follower.wait()
        if rest:
            yield _text(rest)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline():
        yield line


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r\n")
