from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farandole.serving.service.connections import ConnectionBoard, ConnectionKeeper


class Worker:
    """A worker's side of connections, in this process; closing its channel is its death."""

    def __init__(self, path: Path) -> None:
        self.keeper = ConnectionKeeper(path)
        self.channel = socket.socket(fileno=os.dup(self.keeper.worker_end.fileno()))
        self.board = ConnectionBoard(path, self.channel)
        self.keeper.start()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.accepted: list[socket.socket] = []

    def connect(self) -> tuple[socket.socket, int]:
        """Return the caller's end of a new connection, and its slot."""
        caller = socket.create_connection(self.listener.getsockname(), timeout=60)
        self.accepted.append(self.listener.accept()[0])
        slot = self.board.open(self.accepted[-1].fileno())
        assert slot is not None
        return caller, slot

    def die(self) -> int:
        """End like a killed process, and return how many requests the keeper has answered."""
        for connection in self.accepted:
            connection.close()
        self.channel.close()
        return self.keeper.finish()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    found = Worker(tmp_path / "connections-0")
    with ExitStack() as stack:
        stack.callback(found.listener.close)
        stack.callback(found.channel.close)
        yield found


def read_all(caller: socket.socket) -> bytes:
    with caller:
        return b"".join(iter(lambda: caller.recv(65536), b""))


def test_only_waiting_requests_of_a_dead_worker_are_answered(worker: Worker) -> None:
    waiting, first = worker.connect()
    idle, _ = worker.connect()
    answered, third = worker.connect()
    unread, _ = worker.connect()
    unread.sendall(b"POST /predict HTTP/1.1\r\n")
    waiting.sendall(b"POST /predict HTTP/1.1\r\n")
    for slot in (first, third):
        worker.board.set_waiting(slot, True)
    worker.board.set_waiting(third, False)
    assert worker.die() == 2
    assert read_all(unread).startswith(b"HTTP/1.1 503 ")
    head, _, body = read_all(waiting).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"content-length: {len(body)}".encode() in head
    assert b'"kind": "worker_died"' in body
    assert (read_all(idle), read_all(answered)) == (b"", b"")


def test_connection_that_the_worker_closes_is_closed_for_its_caller(worker: Worker) -> None:
    caller, slot = worker.connect()
    worker.accepted[-1].close()
    worker.board.close(slot)
    assert read_all(caller) == b""
    assert worker.die() == 0


def test_slot_is_used_again_without_the_state_of_the_connection_before(worker: Worker) -> None:
    for _ in range(50):
        caller, slot = worker.connect()
        worker.board.set_waiting(slot, True)
        worker.accepted[-1].close()
        worker.board.close(slot)
        caller.close()
    caller, _ = worker.connect()
    assert worker.die() == 0
    assert read_all(caller) == b""


def test_worker_without_a_supervisor_keeps_its_connections_to_itself(tmp_path: Path) -> None:
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with own, socket.create_server(("127.0.0.1", 0)) as connection:
        other.close()
        board = ConnectionBoard(tmp_path / "connections-0", own)
        assert board.open(connection.fileno()) is None
