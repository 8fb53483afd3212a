"""The supervisor's side of a worker's connections: it answers 503 for a worker that was killed.

A dead worker's notes are compared with the kernel's counts of the bytes of each connection, in both directions. So a
caller receives a whole answer or a 503, and never both. Only an answer that the kernel did not take as a whole, because
its caller reads slowly, breaks off.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from farandole.serving.service.connections import CLOSED, MESSAGE, OPENED, UNDER_WAY, Note, Notes

_GRACE_S = 2.0
"""A caller may send its next request just when the worker dies."""
_BODY = b'{"error": "the worker of this request has died; repeat the request", "kind": "worker_died"}'
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)
_TCP_INFO_BYTES = 216
_RECEIVED, _UNSENT, _SENT = struct.Struct("=128xQ"), struct.Struct("=144xI"), struct.Struct("=200xQQ")
"""Where Linux's `struct tcp_info` has `tcpi_bytes_received`, `tcpi_notsent_bytes`, `tcpi_bytes_sent` and, after it,
`tcpi_bytes_retrans`, which were sent again."""


class State(Enum):
    """State of a connection whose worker is dead."""

    WAITING = auto()
    """A request has no byte of its answer yet."""
    IDLE = auto()
    """Every request that has arrived is answered."""
    BROKEN = auto()
    """Only a part of an answer was written."""


class ConnectionKeeper:
    """The connections of one worker, in a thread that ends soon after the worker.

    Args:
        path: The shared file, which is created.
    """

    def __init__(self, path: Path) -> None:
        self._notes = Notes(path)
        self._own, self.worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._held: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = 0
        """The number of requests that were answered in place of the dead worker."""

    def start(self) -> None:
        """Begin, once the worker has its end of the channel."""
        self.worker_end.close()
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """True once the worker is dead, and all of its connections are closed."""
        return not self._thread.is_alive()

    def finish(self) -> int:
        """Wait for the end, and return the number of requests that were answered."""
        self._thread.join()
        return self.answered

    def _run(self) -> None:
        with self._own:
            while True:
                try:
                    content, descriptors, _, _ = socket.recv_fds(self._own, MESSAGE.size, 1)
                except OSError:
                    break
                if len(content) < MESSAGE.size:
                    break
                kind, slot = MESSAGE.unpack(content)
                if kind == OPENED and descriptors:
                    self._held[slot] = descriptors[0]
                elif kind == CLOSED and slot in self._held:
                    os.close(self._held.pop(slot))
        self._end()

    def _end(self) -> None:
        """Answer all requests that wait, were not read yet, or arrive within a moment; close all connections."""
        with selectors.DefaultSelector() as selector:
            for slot, descriptor in self._held.items():
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                state = state_of(connection, self._notes[slot])
                if state is State.BROKEN:
                    connection.close()
                    continue
                selector.register(connection, selectors.EVENT_READ, state)
                if state is State.WAITING:
                    self._answer(connection)
            self._held.clear()
            end_s = time.monotonic() + _GRACE_S
            while selector.get_map() and (left_s := end_s - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    assert isinstance(key.fileobj, socket.socket)
                    self._look_at(selector, key.fileobj, is_answered=key.data is State.WAITING)
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()

    def _look_at(self, selector: selectors.BaseSelector, connection: socket.socket, *, is_answered: bool) -> None:
        """Answer a request that arrives, and let pass what follows an answer, until the caller closes the connection.

        Closed at once, with bytes that nobody has read, a connection would be reset, and the answer lost with it.
        """
        try:
            received = connection.recv(65536)
        except OSError:
            received = b""
        if not received:
            selector.unregister(connection)
            connection.close()
        elif not is_answered:
            self._answer(connection)
            selector.modify(connection, selectors.EVENT_READ, State.WAITING)

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.send(_ANSWER)
            self.answered += 1
            connection.shutdown(socket.SHUT_WR)


def state_of(connection: socket.socket, note: Note) -> State:
    """Return the state of a connection that its dead worker has left.

    Args:
        connection: The connection.
        note: The worker's last note of it.
    """
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    (received,), (unsent,), (sent, sent_again) = (
        _RECEIVED.unpack_from(info),
        _UNSENT.unpack_from(info),
        _SENT.unpack(info),
    )
    written = sent - sent_again + unsent
    if written == note.end and note.read != UNDER_WAY:
        # the caller's closing of the connection counts as one more byte, and no request has so few
        return State.WAITING if received > note.read + 1 else State.IDLE
    return State.WAITING if written == note.begin else State.BROKEN
