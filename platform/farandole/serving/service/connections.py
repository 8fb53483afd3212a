"""Connections of a worker that somebody else can still answer if the worker is killed.

For each connection, the worker passes a second descriptor to the supervisor (see `connection_keeper`), and notes in
memory that both share how far its answers go. A note is made before the answer is written, and the kernel counts what
was written: so the supervisor of a killed worker knows whether an answer has left, whatever moment it was killed at.
Connections with TLS cannot be answered by another process.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections import deque
from pathlib import Path
from typing import NamedTuple

SLOTS = 16_384
OPENED, CLOSED = 1, 0
MESSAGE = struct.Struct("<BI")
UNDER_WAY = 2**64 - 1
"""In a note: an answer of several parts is not complete."""
_BEGIN, _END, _READ = range(3)
_FIELDS = 3
_BYTES = SLOTS * _FIELDS * 8


class Note(NamedTuple):
    """A worker's view of a connection; all three count bytes from the connection's beginning.

    Args:
        begin: Where the newest answer begins, among everything that was written; `UNDER_WAY` where its first parts
            are written already.
        end: Where it ends. Until as much has been written, the answer is not on the wire.
        read: The requests up to here are answered, once the answer is on the wire; `UNDER_WAY` until its last part.
    """

    begin: int
    end: int
    read: int


class Notes:
    """The shared memory with a note for each slot.

    A killed worker stops between any two of its instructions, so each number is stored at once, and their order
    matters.

    Args:
        path: The shared file, which is created.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _BYTES)
            self._numbers = memoryview(mmap.mmap(descriptor, _BYTES)).cast("Q")
        finally:
            os.close(descriptor)

    def __getitem__(self, slot: int) -> Note:
        """Return the note of a slot."""
        first = slot * _FIELDS
        return Note(*self._numbers[first : first + _FIELDS])

    def clear(self, slot: int) -> None:
        """Begin the note of a new connection."""
        first = slot * _FIELDS
        for field in range(_FIELDS):
            self._numbers[first + field] = 0

    def set_answer(self, slot: int, note: Note) -> None:
        """Note an answer that is about to be written."""
        first = slot * _FIELDS
        # Until the end is stored, the note describes the answer before, which is on the wire. Afterwards, what was read
        # counts only once the new answer is on the wire.
        self._numbers[first + _BEGIN] = note.begin
        self._numbers[first + _END] = note.end
        self._numbers[first + _READ] = note.read

    def set_read(self, slot: int, read: int) -> None:
        """Note bytes that no answer is due for, such as the rest of a body that was refused."""
        self._numbers[slot * _FIELDS + _READ] = read


class ConnectionBoard:
    """The worker's side.

    Args:
        path: The shared file.
        channel: The socket to the supervisor.
    """

    def __init__(self, path: Path, channel: socket.socket) -> None:
        self.notes, self._channel = Notes(path), channel
        channel.setblocking(False)
        self._free = deque(range(SLOTS))
        self._unsent: deque[int] = deque()
        """Connections whose end the supervisor does not know yet."""

    def open(self, descriptor: int) -> int | None:
        """Pass a connection on; return its slot, or None if the supervisor has no room for it."""
        self.send_ends()
        if self._unsent or not self._free:
            return None
        slot = self._free.popleft()
        self.notes.clear(slot)
        try:
            socket.send_fds(self._channel, [MESSAGE.pack(OPENED, slot)], [descriptor])
        except OSError:
            self._free.appendleft(slot)
            return None
        return slot

    def close(self, slot: int) -> None:
        """Report the end of a connection."""
        self._unsent.append(slot)
        self.send_ends()

    def send_ends(self) -> None:
        """Report ends that could not be reported before; call it now and then."""
        while self._unsent:
            try:
                self._channel.send(MESSAGE.pack(CLOSED, self._unsent[0]))
            except OSError:
                return
            self._free.append(self._unsent.popleft())


def board_file(directory: Path, number: int) -> Path:
    """Return the shared file of a worker, by its number."""
    return directory / f"connections-{number}"
