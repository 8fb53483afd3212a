"""The audit log: who asked for what, written before the answer leaves, by all workers into one chain.

Lines are appended under a file lock: read the head, append, write the head. Answers that are ready in the same turn of
the event loop share one turn of the lock, and each of them waits until its line is written; so a worker that is killed
loses no line of an answer that it has sent. Refusals are counted, and one line a second stands for all equal ones:
otherwise a caller without a key could fill the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from farandole.errors import UserError, explain_os_error
from farandole.process.locks import RepeatedLock
from farandole.serving.access.audit_chain import HEAD, HEAD_BYTES, LOCK, LOG, Chain, Head, archive_name, log_files
from farandole.serving.access.callers import AccessDenied, Caller
from farandole.serving.access.server_secret import ServerSecret

MAX_FILE_BYTES = 256 * 2**20
"""A file that has reached this size is closed, and the chain continues in a new one."""

_REFUSALS_EVERY_S = 1.0

_WaitingLine = tuple[str, asyncio.Future[None]]
"""A line's own fields as JSON, and what is done once the line is written."""


class AuditError(Exception):
    """A line could not be written."""


class AuditLog:
    """Writer of the log in one worker.

    Args:
        directory: The access directory, which exists.
        secret: The server's secret.
        max_file_bytes: Size at which a file is closed.

    Raises:
        UserError: The log cannot be written.
    """

    def __init__(self, directory: Path, secret: ServerSecret, *, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._directory, self._chain, self._max_file_bytes = directory, Chain(secret), max_file_bytes
        self._path = directory / LOG
        self._writer = secrets.token_hex(4)
        self._encode = _encoder()
        self._waiting: list[_WaitingLine] = []
        self._refusals: dict[tuple[str, str, int, str, str | None], int] = {}
        self._refusals_due_s = 0.0
        self._log: int | None = None
        self._log_inode = 0
        self._own_head: tuple[bytes, Head | None] = b"", None
        """The head that this worker wrote last; usually it is still there, and need not be checked."""
        try:
            self._lock = RepeatedLock(directory / LOCK)
            self._head = os.open(directory / HEAD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.append({"event": "opened", "writer": self._writer})
        except OSError as error:
            raise UserError(explain_os_error(error, self._path)) from error
        except AuditError as error:
            raise UserError(str(error)) from error

    async def record(self, caller: Caller, action: str, status: int, fields: Mapping[str, Any]) -> None:
        """Write a line about an answer, together with those of other answers that are ready; return once it is written.

        Args:
            caller: Who asked.
            action: What for: `predict`, `explain`, `reload`.
            status: The HTTP status of the answer.
            fields: More: model, version, digest, rows. Never inputs or predictions.

        Raises:
            AuditError: The line cannot be written.
        """
        text = self._encode({"caller": caller.id, "name": caller.name, "action": action, "status": status, **fields})
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._write_waiting)
        self._waiting.append((text, written))
        await written

    def record_refusal(self, denied: AccessDenied, certificate: str | None = None) -> None:
        """Count a refusal; the first one of its kind in a second is written at once.

        Args:
            denied: The refusal.
            certificate: The name of the client's certificate; None: it showed none.

        Raises:
            AuditError: The line cannot be written.
        """
        caller = denied.caller
        kind = (caller.id if caller else "", caller.name if caller else "", denied.status, denied.code, certificate)
        self._refusals[kind] = self._refusals.get(kind, 0) + 1
        self._write_refusals()

    def append(self, fields: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            AuditError: The line cannot be written; the log is as it was.
        """
        self._append_all([self._encode(fields)])

    def close(self) -> None:
        """Write the refusals that were only counted, and that this worker ends.

        Raises:
            AuditError: The lines cannot be written.
        """
        try:
            self._append_all([text for text, _ in self._waiting])
            self._refusals_due_s = 0.0
            self._write_refusals()
            self.append({"event": "closed", "writer": self._writer})
        finally:
            for descriptor in (self._log, self._head):
                if descriptor is not None:
                    os.close(descriptor)
            self._lock.close()

    def _write_refusals(self) -> None:
        now_s = time.monotonic()
        if not self._refusals or now_s < self._refusals_due_s:
            return
        self._refusals_due_s = now_s + _REFUSALS_EVERY_S
        for kind, count in list(self._refusals.items()):
            caller, name, status, code, certificate = kind
            who = {"caller": caller, "name": name} if caller else {"caller": None}
            shown = {"certificate": certificate} if certificate is not None else {}
            self.append({**who, "action": "refused", "status": status, "code": code, "count": count, **shown})
            del self._refusals[kind]

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        with suppress(AuditError):  # they stay counted, and are tried again
            self._write_refusals()
        self._write(waiting)

    def _write(self, waiting: Sequence[_WaitingLine]) -> None:
        """Write lines, and let the answers go that wait for them."""
        failure: Exception | None = None
        try:
            self._append_all([text for text, _ in waiting])
        except Exception as error:  # noqa: BLE001 - an answer would wait for ever
            if len(waiting) > 1:  # a disk that is nearly full has room for some of them
                for each in waiting:
                    self._write([each])
                return
            failure = error
        for _, written in waiting:
            if written.done():  # its request was cancelled
                continue
            if failure is None:
                written.set_result(None)
            else:
                written.set_exception(failure)

    def _append_all(self, texts: Sequence[str]) -> None:
        """Append lines, all or none.

        Raises:
            AuditError: They cannot be written; the log is as it was.
        """
        if not texts:
            return
        try:
            with self._lock:
                self._append(texts)
        except OSError as error:
            raise AuditError(
                f"{explain_os_error(error, self._path)}; a line of the audit log was not written"
            ) from error

    def _append(self, texts: Sequence[str]) -> None:
        log, size_bytes = self._open_log()
        head, repair = self._read_head(log, size_bytes)
        if head.size_bytes >= self._max_file_bytes and self._archive(log):
            log, _ = self._open_log()
            head = Head(head.number, head.mac)
        time_text = datetime.now(UTC).isoformat(timespec="milliseconds")
        number, mac, lines = head.number, head.mac, []
        for text in texts:
            number += 1
            whole = f'{{"n": {number}, "time": "{time_text}", {text[1:]}'
            if repair:
                whole, repair = f'{whole[:-1]}, "repair": "{repair}"}}', None
            line, mac = self._chain.seal(whole, mac)
            lines.append(line)
        written = b"".join(lines)
        _write_whole(log, written, head.size_bytes)
        new_head = Head(number, mac, head.size_bytes + len(written))
        content = self._chain.write_head(new_head)
        try:
            os.pwrite(self._head, content, 0)
        except OSError:
            os.ftruncate(log, head.size_bytes)
            raise
        self._own_head = content, new_head

    def _open_log(self) -> tuple[int, int]:
        """Return descriptor and length of the present file, which another worker may have started."""
        try:
            found = os.stat(self._path)
            if self._log is not None and found.st_ino == self._log_inode:
                return self._log, found.st_size
        except FileNotFoundError:
            pass
        if self._log is not None:
            os.close(self._log)
        self._log = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        found = os.fstat(self._log)
        self._log_inode = found.st_ino
        return self._log, found.st_size

    def _read_head(self, log: int, size_bytes: int) -> tuple[Head, str | None]:
        """Return the end of the chain, and what had to be repaired.

        A worker that died between two writes leaves a line that the head does not know, or a fragment of one. Only a
        fragment is removed. Where lines are missing or were added, the chain continues from the last line that fits,
        so that the verification finds the place.
        """
        content = os.pread(self._head, HEAD_BYTES, 0)
        own_content, own_head = self._own_head
        head = own_head if content == own_content else self._chain.read_head(content)
        if head is not None and head.size_bytes == size_bytes:
            return head, None
        found = head or self._last_head()
        if found.number == 0 and size_bytes == 0:
            return Head(), None
        repair = "the head was missing or damaged" if head is None else None
        tail = os.pread(log, max(0, size_bytes - found.size_bytes), found.size_bytes)
        fragment = tail.rpartition(b"\n")[2]
        if fragment:
            os.ftruncate(log, size_bytes - len(fragment))
            repair = repair or "an incomplete line was removed"
        if size_bytes < found.size_bytes:
            repair = repair or "the log was shorter than its head says"
        for line in tail.splitlines(keepends=True):
            opened = self._chain.open(line[:-1], found.mac) if line.endswith(b"\n") else None
            if opened is None:
                break
            found = Head(int(opened[0]["n"]), opened[1])
        return Head(found.number, found.mac, size_bytes - len(fragment)), repair

    def _last_head(self) -> Head:
        """Return the head as the last complete line states it; whether that is true, the verification decides."""
        for path in reversed(log_files(self._directory)):
            content = path.read_bytes()
            complete = content[: content.rfind(b"\n") + 1]
            if complete:
                number, mac = self._chain.claimed(complete[:-1].rpartition(b"\n")[2])
                return Head(number, mac, len(complete) if path == self._path else 0)
        return Head()

    def _archive(self, log: int) -> bool:
        """Give the present file the name of a closed one; return whether that name was free."""
        first, _ = self._chain.claimed(os.pread(log, 64 * 1024, 0).partition(b"\n")[0])
        path = self._directory / archive_name(first)
        if path.exists():
            return False
        self._path.rename(path)
        return True


def _encoder() -> Callable[[Mapping[str, Any]], str]:
    """Return a function that writes fields as JSON in ASCII; the service's library needs a tenth of the time."""
    import orjson

    def encode(fields: Mapping[str, Any]) -> str:
        try:
            text = orjson.dumps(fields).decode()
        except TypeError:  # such as half of a surrogate pair
            return json.dumps(fields)
        return text if text.isascii() else json.dumps(fields)

    return encode


def _write_whole(descriptor: int, line: bytes, position: int) -> None:
    """Write lines at a position whole, or not at all."""
    try:
        written = os.pwrite(descriptor, line, position)
        while written < len(line):  # the disk is full: the next call says so
            written += os.pwrite(descriptor, line[written:], position + written)
    except OSError:
        os.ftruncate(descriptor, position)
        raise
