"""What is to be recorded, on disk until the store has taken it.

Operations are lines of JSON in numbered segments, only ever appended. One process at a time owns a spool; one thread
of it may append while another reads and acknowledges. A process that is killed loses nothing that was appended (the
kernel holds it); a machine that loses power loses what came after the last `flush`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.errors import SpecError
from farandole.process.atomic import write_json
from farandole.process.locks import try_lock

Operation = dict[str, Any]

_SEGMENT_BYTES = 4 << 20
"""A segment that is larger is followed by the next; what has been taken in full is deleted."""
_STATE = "sent.json"
_FILES = "files"
_REFUSED = "refused.jsonl"


@dataclass(frozen=True)
class Entry:
    """An operation that waits, and where it ends.

    Args:
        operation: The operation.
        segment: The number of its segment.
        end: The offset behind it, in bytes.
    """

    operation: Operation
    segment: int
    end: int


class Spool:
    """One directory of operations in order.

    Args:
        directory: Where they lie; made if missing.

    Raises:
        SpecError: Another process owns it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        owned = try_lock(directory)
        if owned is None:
            raise SpecError(f"{directory}: a job that still runs records here and sends it itself")
        self._owned = owned
        self._lock = threading.Lock()
        self._late: list[bytes] = []
        self.problem: OSError | None = None
        """Why operations wait in memory: the disk that cannot take them."""
        self._segment, self._offset = self._read_state()
        newest = max([*self._segments(), self._segment])
        self._file = os.open(self._path(newest), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._newest = newest
        self._cut_torn_line()
        self._dirty = False
        self._waiting = sum(1 for _ in self._entries())

    @property
    def waiting(self) -> int:
        """How many operations have not been taken."""
        with self._lock:
            return self._waiting + len(self._late)

    def append(self, operation: Operation) -> None:
        """Add an operation behind all others. On a full disk it waits in memory for `flush`."""
        line = json.dumps(operation, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._late.append(line)
            self._write_late()

    def keep(self, name: str, content: bytes) -> str:
        """Put a file beside the operations; returns its place, for the operation that sends it."""
        place = self.new_place()
        path = self.place(place) / name
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return f"{place}/{name}"

    def new_place(self) -> str:
        """An empty directory for files that an operation sends."""
        name = uuid.uuid4().hex[:12]
        self.place(name).mkdir(parents=True)
        return name

    def place(self, name: str) -> Path:
        """Where a place lies."""
        return self.directory / _FILES / name

    def discard(self, name: str) -> None:
        """Delete a place whose files have been taken."""
        shutil.rmtree(self.place(name.partition("/")[0]), ignore_errors=True)

    def next(self, most: int) -> list[Entry]:
        """The first operations that have not been taken."""
        entries = []
        for entry in self._entries():
            entries.append(entry)
            if len(entries) == most:
                break
        return entries

    def acknowledge(self, entry: Entry, count: int = 1) -> None:
        """All up to `entry`, `count` of them, have been taken."""
        with self._lock:
            done = range(self._segment, entry.segment)
            self._segment, self._offset = entry.segment, entry.end
            self._waiting -= count
            # Without fsync: if it is lost, some operations are sent twice, and taken once.
            _write(self.directory / _STATE, {"segment": self._segment, "offset": self._offset})
            for number in done:
                self._path(number).unlink(missing_ok=True)

    def refuse(self, operation: Operation, reason: str) -> None:
        """Set aside an operation that the store will never take; it is kept for the reader."""
        with (self.directory / _REFUSED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "operation": operation}) + "\n")

    def flush(self) -> None:
        """Bring what was appended to the disk. Where that fails, `problem` says why, and it is tried again later."""
        with self._lock:
            self._write_late()
            dirty, self._dirty = self._dirty, False
            handle = self._file
        if dirty:
            try:
                os.fsync(handle)
            except OSError as error:
                self.problem = error

    def close(self) -> None:
        """Give the spool up; one in which nothing waits is deleted, except for what was refused."""
        self.flush()
        os.close(self._file)
        if not self.waiting:
            for path in (*map(self._path, self._segments()), self.directory / _STATE):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.directory / _FILES, ignore_errors=True)
            if not any(self.directory.iterdir()):
                self.directory.rmdir()
        self._owned.release()

    def _write_late(self) -> None:
        """Append what waits in memory, whole lines only."""
        while self._late:
            try:
                self._write_line(self._late[0])
            except OSError as error:
                self.problem = error
                return
            del self._late[0]
            self._waiting += 1
            self._dirty = True
        self.problem = None

    def _write_line(self, line: bytes) -> None:
        size = os.fstat(self._file).st_size
        if size > _SEGMENT_BYTES:
            os.fsync(self._file)
            fresh = os.open(self._path(self._newest + 1), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            os.close(self._file)
            self._file, self._newest, size = fresh, self._newest + 1, 0
        if os.write(self._file, line) < len(line):
            os.ftruncate(self._file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))

    def _entries(self) -> Iterator[Entry]:
        """From the first that has not been taken to the last, as they were when the reading began."""
        offset = self._offset
        for number in [number for number in self._segments() if number >= self._segment]:
            with self._path(number).open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # it is being written
                    offset += len(line)
                    yield Entry(json.loads(line), number, offset)
            offset = 0

    def _cut_torn_line(self) -> None:
        """A process that was killed while it wrote leaves half a line."""
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, size, 0)
        whole = content.rfind(b"\n") + 1
        if whole < size:
            os.ftruncate(self._file, whole)

    def _read_state(self) -> tuple[int, int]:
        known = self._segments()
        first = known[0] if known else 1
        try:
            state = json.loads((self.directory / _STATE).read_text(encoding="utf-8"))
            segment, offset = int(state["segment"]), int(state["offset"])
        except (OSError, ValueError, KeyError):
            return first, 0  # nothing was taken yet, as far as is known: all is sent again, and taken once
        return (segment, offset) if segment in known else (first, 0)

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self.directory.glob("[0-9]*.jsonl"))

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}.jsonl"


def _write(path: Path, value: dict[str, Any]) -> None:
    with suppress(OSError):  # a full disk: what was taken may be sent twice, and is taken once
        write_json(path, value)
