"""Connections of a worker that somebody else can still answer if the worker is killed.

For each connection, the worker passes a second descriptor to the supervisor, and notes in memory that both share
whether a request waits for its answer. If the worker dies, the supervisor answers 503 on these, and closes all.
Connections with TLS cannot be answered by another process: they are closed.
"""

from __future__ import annotations

import mmap
import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

_SLOTS = 16_384
_IDLE, _WAITING = b"\0", b"\1"
_OPENED, _CLOSED = 1, 0
_GRACE_S = 0.5
"""A caller may send its next request just when the worker dies."""
_MESSAGE = struct.Struct("<BI")
_BODY = b'{"error": "the worker of this request has died; repeat the request", "kind": "worker_died"}'
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)


def _board(path: Path) -> mmap.mmap:
    """Map the file in which each connection has a byte."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, _SLOTS)
        return mmap.mmap(descriptor, _SLOTS)
    finally:
        os.close(descriptor)


class ConnectionBoard:
    """The worker's side.

    Args:
        path: The shared file.
        channel: The socket to the supervisor.
    """

    def __init__(self, path: Path, channel: socket.socket) -> None:
        self._board, self._channel = _board(path), channel
        channel.setblocking(False)
        self._free = deque(range(_SLOTS))
        self._unsent: deque[int] = deque()
        """Connections whose end the supervisor does not know yet."""

    def open(self, descriptor: int) -> int | None:
        """Pass a connection on; return its slot, or None if the supervisor has no room for it."""
        self.send_ends()
        if self._unsent or not self._free:
            return None
        slot = self._free.popleft()
        self._board[slot : slot + 1] = _IDLE
        try:
            socket.send_fds(self._channel, [_MESSAGE.pack(_OPENED, slot)], [descriptor])
        except OSError:
            self._free.appendleft(slot)
            return None
        return slot

    def close(self, slot: int) -> None:
        """Report the end of a connection."""
        self._board[slot : slot + 1] = _IDLE
        self._unsent.append(slot)
        self.send_ends()

    def set_waiting(self, slot: int, is_waiting: bool) -> None:
        """Note whether a request waits for its answer."""
        self._board[slot : slot + 1] = _WAITING if is_waiting else _IDLE

    def send_ends(self) -> None:
        """Report ends that could not be reported before; call it now and then."""
        while self._unsent:
            try:
                self._channel.send(_MESSAGE.pack(_CLOSED, self._unsent[0]))
            except OSError:
                return
            self._free.append(self._unsent.popleft())


class ConnectionKeeper:
    """The supervisor's side, for one worker: a thread that ends with the worker.

    Args:
        path: The shared file, which is created.
    """

    def __init__(self, path: Path) -> None:
        self._board = _board(path)
        self._own, self.worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._held: dict[int, int] = {}
        self._answered = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin, once the worker has its end of the channel."""
        self.worker_end.close()
        self._thread.start()

    def finish(self) -> int:
        """Return the number of requests that were answered in place of a dead worker."""
        self._thread.join()
        return self._answered

    def _run(self) -> None:
        with self._own:
            while True:
                try:
                    content, descriptors, _, _ = socket.recv_fds(self._own, _MESSAGE.size, 1)
                except OSError:
                    break
                if len(content) < _MESSAGE.size:
                    break
                kind, slot = _MESSAGE.unpack(content)
                if kind == _OPENED and descriptors:
                    self._held[slot] = descriptors[0]
                elif kind == _CLOSED and slot in self._held:
                    os.close(self._held.pop(slot))
        self._end()
        self._board.close()

    def _end(self) -> None:
        """Answer all requests that wait, were not read yet, or arrive within a moment; close all connections."""
        held = {socket.socket(fileno=descriptor): slot for slot, descriptor in self._held.items()}
        self._held.clear()
        for connection in [each for each, slot in held.items() if self._board[slot : slot + 1] == _WAITING]:
            self._answer(connection)
            del held[connection]
        with selectors.DefaultSelector() as selector:
            for connection in held:
                selector.register(connection, selectors.EVENT_READ)
            end_s = time.monotonic() + _GRACE_S
            while selector.get_map() and (left_s := end_s - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    selector.unregister(key.fileobj)
                    assert isinstance(key.fileobj, socket.socket)
                    self._answer_or_close(key.fileobj)
                    del held[key.fileobj]
        for connection in held:
            connection.close()

    def _answer_or_close(self, connection: socket.socket) -> None:
        """Answer a request that has arrived, unless the caller has only closed the connection."""
        with suppress(OSError):
            if connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                self._answer(connection)
        connection.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setblocking(False)
            connection.send(_ANSWER)
            self._answered += 1
            connection.shutdown(socket.SHUT_WR)
            # what was sent and not read would make the kernel reset the connection, and with it the answer
            while connection.recv(65536):
                pass


def board_file(directory: Path, number: int) -> Path:
    """Return the shared file of a worker, by its number."""
    return directory / f"connections-{number}"
