"""Relay of the workers' output into the launcher's, so that one pod's log holds everything about a job."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import IO

from farandole.jobdir.layout import worker_logs

_POLL_S = 0.2
RANK_LINE = re.compile(r"^\[(?P<rank>\d+)\] (?P<text>.*)$", re.DOTALL)
"""A line of a worker in the launcher's log."""


class RankLogRelay:
    """Thread that prints new lines of the workers' logs, each with its rank.

    Args:
        directory: The job's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[Path, IO[str]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="rank logs", daemon=True)

    def __enter__(self) -> RankLogRelay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._relay(final=True)
        for file in self._open.values():
            file.close()

    def _follow(self) -> None:
        while not self._stopped.wait(_POLL_S):
            self._relay(final=False)

    def _relay(self, *, final: bool) -> None:
        for _, rank, path in worker_logs(self._directory):
            if path not in self._open:
                self._open[path] = path.open(encoding="utf-8", errors="replace")
            self._print(self._open[path], rank, final=final)

    def _print(self, file: IO[str], rank: int, *, final: bool) -> None:
        while True:
            start = file.tell()
            line = file.readline()
            if not line:
                return
            if not line.endswith("\n") and not final:  # incomplete: its end has not been written yet
                file.seek(start)
                return
            print(f"[{rank}] {line.rstrip(chr(10))}", flush=True)
