"""The structured log of a service: one JSON object a line on stderr, without any value of a row."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, BinaryIO

import orjson

_FLUSH_S = 0.2
_FLUSH_BYTES = 16 * 1024


class JsonLog:
    """Writer of log lines. Lines about requests are collected for a moment; all others are written at once.

    Args:
        stream: Where to write. Default: standard error.
        name: The name of the process, part of every line.
    """

    def __init__(self, stream: BinaryIO | None = None, name: str = "supervisor") -> None:
        self._stream = stream if stream is not None else sys.stderr.buffer
        self._name, self._pid = name, os.getpid()
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._size = 0
        self._flushed_s = time.monotonic()

    def write(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Write a line now."""
        self._add(event, level, fields)
        self.flush()

    def request(self, **fields: Any) -> None:
        """Write a line about a request, now or within moments."""
        self._add("request", "info", fields)
        if self._size > _FLUSH_BYTES or time.monotonic() - self._flushed_s > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the lines that were collected."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
            self._flushed_s = time.monotonic()
            if not lines:
                return
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads the log any more; the service is more important
                return

    def _add(self, event: str, level: str, fields: dict[str, Any]) -> None:
        head = {"time": time.time(), "level": level, "event": event, "process": self._name, "pid": self._pid}
        line = orjson.dumps(head | fields, default=str, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            self._lines.append(line)
            self._size += len(line)
