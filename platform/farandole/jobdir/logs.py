"""Lines of logs, also while they are written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from farandole.jobdir.outcome import LOG
from farandole.launch.attempt import log_file

_POLL_S = 0.2
_ASK_EVERY_S = 1.0
"""How often it is asked whether the job has ended: dearer than to look whether a file has grown."""


def read_job_log(directory: Path, has_ended: Callable[[], bool] | None) -> Iterator[str]:
    """What the job itself says, over all its starts.

    Args:
        directory: The job's directory.
        has_ended: Follow until this is so. Default: what is there.
    """
    yield from _lines(directory / LOG, _Patience(has_ended), lambda: False)


def read_rank_log(directory: Path, rank: int, has_ended: Callable[[], bool] | None) -> Iterator[str]:
    """What one worker wrote, over all attempts."""
    number, patience = 1, _Patience(has_ended)
    while True:
        logs = directory / "logs"
        has_next = _after(logs, number)
        yield from _lines(log_file(logs / f"attempt-{number}", rank), patience, has_next)
        if not has_next():
            return
        number += 1


def _after(logs: Path, number: int) -> Callable[[], bool]:
    return lambda: (logs / f"attempt-{number + 1}").is_dir()


class _Patience:
    """Whether there is more to wait for."""

    def __init__(self, has_ended: Callable[[], bool] | None) -> None:
        self._has_ended = has_ended
        self._asked_s = 0.0
        self.over = has_ended is None

    def wait(self) -> None:
        """Wait a little, and ask now and then. What is written before the end is known can still be read after it."""
        now_s = time.monotonic()
        if self._has_ended is not None and now_s - self._asked_s >= _ASK_EVERY_S:
            self._asked_s = now_s
            self.over = self._has_ended()
        if not self.over:
            time.sleep(_POLL_S)


def _lines(path: Path, patience: _Patience, is_closed: Callable[[], bool]) -> Iterator[str]:
    """The lines of a file that may not be there yet, and grows until it is closed or the patience is over."""
    while not path.exists():
        if is_closed() or patience.over:
            return
        patience.wait()
    with closing(path.open("rb")) as file:
        rest = b""
        while True:
            last = patience.over or is_closed()  # asked before the reading: nothing is added afterwards
            for line in _read(file):
                rest += line
                if rest.endswith(b"\n"):
                    yield _text(rest)
                    rest = b""
            if last:
                break
            patience.wait()
        if rest:
            yield _text(rest)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline():
        yield line


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r\n")
