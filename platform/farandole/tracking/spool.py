"""A queue of operations on disk that lasts until the MLflow store has accepted them.

Operations are lines of JSON in numbered segments, which are only appended to. One process at a time owns a spool; one
of its threads may append while another reads and acknowledges. A killed process loses no appended operation (the kernel
holds them); a machine that loses power loses the operations since the last `flush`.
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
"""Size after which a new segment is begun. Segments are deleted once all their operations are acknowledged."""
_POSITION = "sent.json"
_FILES = "files"
_REJECTED = "refused.jsonl"
_REJECTED_FILES = "refused"


@dataclass(frozen=True)
class SpooledOperation:
    """A pending operation and its position.

    Args:
        operation: The operation.
        segment: Number of its segment.
        end: Offset of its end in the segment, in bytes.
    """

    operation: Operation
    segment: int
    end: int


class Spool:
    """One directory of operations in order.

    Args:
        directory: The directory, which is created if missing.

    Raises:
        SpecError: Another process owns the spool.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        lock = try_lock(directory)
        if lock is None:
            raise SpecError(f"{directory}: a running job owns this spool and sends it itself; wait until the job ends")
        self._directory_lock = lock
        self._lock = threading.Lock()
        self._unwritten: list[bytes] = []
        self.disk_error: OSError | None = None
        """The error because of which operations are held in memory, if any."""
        self._segment, self._offset = self._read_position()
        newest = max([*self._segments(), self._segment])
        self._file = os.open(self._path(newest), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._newest = newest
        self._truncate_partial_line()
        self._dirty = False
        self._pending = sum(1 for _ in self._operations())

    @property
    def pending(self) -> int:
        """Number of operations that have not been acknowledged."""
        with self._lock:
            return self._pending + len(self._unwritten)

    def append(self, operation: Operation) -> None:
        """Append an operation. If the disk is full, it is held in memory until `flush`."""
        line = json.dumps(operation, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._unwritten.append(line)
            self._write_pending_lines()

    def store_file(self, name: str, content: bytes) -> str:
        """Store a file for an operation to send; return its path, relative to the folder of files."""
        folder = self.new_folder()
        with (self.files / folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return f"{folder}/{name}"

    def new_folder(self) -> str:
        """Create an empty folder for the files of an operation; return its name."""
        name = uuid.uuid4().hex[:12]
        (self.files / name).mkdir(parents=True)
        return name

    @property
    def files(self) -> Path:
        """The folder of the files that operations send."""
        return self.directory / _FILES

    @property
    def rejected_files(self) -> Path:
        """The folder of the files of operations that the store will never accept."""
        return self.directory / _REJECTED_FILES

    def discard_files(self, name: str) -> None:
        """Delete the folder, or the folder of the file, that an operation has sent."""
        shutil.rmtree(self.files / name.partition("/")[0], ignore_errors=True)

    def peek(self, limit: int) -> list[SpooledOperation]:
        """Return the first pending operations, at most `limit`."""
        operations = []
        for operation in self._operations():
            operations.append(operation)
            if len(operations) == limit:
                break
        return operations

    def acknowledge(self, last: SpooledOperation, count: int = 1) -> None:
        """Remove the first `count` operations, of which `last` is the last."""
        with self._lock:
            finished = range(self._segment, last.segment)
            self._segment, self._offset = last.segment, last.end
            self._pending -= count
            # On a full disk the old position stays: operations are sent again then, and accepted once.
            with suppress(OSError):
                position = {"segment": self._segment, "offset": self._offset}
                write_json(self.directory / _POSITION, position)
            for number in finished:
                self._path(number).unlink(missing_ok=True)

    def set_aside(self, operation: Operation, reason: str) -> None:
        """Keep an operation that the store will never accept in a separate file, and its own files, for the user."""
        name = (operation.get("place") or operation.get("file") or "").partition("/")[0]
        if name:
            self.rejected_files.mkdir(exist_ok=True)
            with suppress(OSError):  # moved already by a process that was killed before it acknowledged the operation
                (self.files / name).rename(self.rejected_files / name)
        with (self.directory / _REJECTED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "operation": operation}) + "\n")

    def flush(self) -> None:
        """Write appended operations to the disk. On failure, `disk_error` is set, and a later call retries."""
        with self._lock:
            self._write_pending_lines()
            dirty, self._dirty = self._dirty, False
            descriptor = self._file
        if dirty:
            try:
                os.fsync(descriptor)
            except OSError as error:
                self.disk_error = error

    def close(self) -> None:
        """Release the spool, and delete it if nothing is pending; rejected operations are kept."""
        self.flush()
        os.close(self._file)
        if not self.pending:
            drafts = self.directory.glob(f".{_POSITION}.*")  # left by a process that was killed while it wrote
            for path in (*map(self._path, self._segments()), self.directory / _POSITION, *drafts):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.files, ignore_errors=True)
            if not any(self.directory.iterdir()):
                self.directory.rmdir()
        self._directory_lock.release()

    def _write_pending_lines(self) -> None:
        """Append the lines that are held in memory, whole lines only."""
        while self._unwritten:
            try:
                self._write_line(self._unwritten[0])
            except OSError as error:
                self.disk_error = error
                return
            del self._unwritten[0]
            self._pending += 1
            self._dirty = True
        self.disk_error = None

    def _write_line(self, line: bytes) -> None:
        size = os.fstat(self._file).st_size
        if size > _SEGMENT_BYTES:
            os.fsync(self._file)
            descriptor = os.open(self._path(self._newest + 1), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            os.close(self._file)
            self._file, self._newest, size = descriptor, self._newest + 1, 0
        if os.write(self._file, line) < len(line):
            os.ftruncate(self._file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))

    def _operations(self) -> Iterator[SpooledOperation]:
        """Iterate over the pending operations that existed when iteration began."""
        offset = self._offset
        for number in [number for number in self._segments() if number >= self._segment]:
            with self._path(number).open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # another thread is writing this line
                    offset += len(line)
                    yield SpooledOperation(json.loads(line), number, offset)
            offset = 0

    def _truncate_partial_line(self) -> None:
        """Remove the partial line that a process leaves if it is killed while it writes."""
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, size, 0)
        whole = content.rfind(b"\n") + 1
        if whole < size:
            os.ftruncate(self._file, whole)

    def _read_position(self) -> tuple[int, int]:
        known = self._segments()
        first = known[0] if known else 1
        try:
            position = json.loads((self.directory / _POSITION).read_text(encoding="utf-8"))
            segment, offset = int(position["segment"]), int(position["offset"])
        except (OSError, ValueError, KeyError):
            return first, 0  # the position is unknown: operations are sent again, and accepted once
        return (segment, offset) if segment in known else (first, 0)

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self.directory.glob("[0-9]*.jsonl"))

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}.jsonl"
