"""The workers' output in the launcher's own: one log of a pod holds all that there is to read of a job."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import IO

from farandole.jobdir.layout import worker_logs

_LOOK_EVERY_S = 0.2
RANK_LINE = re.compile(r"^\[(?P<rank>\d+)\] (?P<text>.*)$", re.DOTALL)
"""A line of the launcher's log that a worker wrote."""


class RankLogRelay:
    """Prints new lines of the workers' logs, each with its rank.

    Args:
        directory: The job's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[Path, IO[str]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="rank logs", daemon=True)

    def __enter__(self) -> RankLogRelay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look(whole=True)
        for file in self._open.values():
            file.close()

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            self._look(whole=False)

    def _look(self, *, whole: bool) -> None:
        for _, rank, path in worker_logs(self._directory):
            if path not in self._open:
                self._open[path] = path.open(encoding="utf-8", errors="replace")
            self._print(self._open[path], rank, whole=whole)

    def _print(self, file: IO[str], rank: int, *, whole: bool) -> None:
        while True:
            start = file.tell()
            line = file.readline()
            if not line:
                return
            if not line.endswith("\n") and not whole:  # half a line: it is not at its end yet
                file.seek(start)
                return
            print(f"[{rank}] {line.rstrip(chr(10))}", flush=True)
