from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farandole.serving.service.connection_keeper import ConnectionKeeper, State, state_of
from farandole.serving.service.connections import UNDER_WAY, ConnectionBoard, Note
from tests.support.killed_worker import statuses_of_killed_workers

REQUEST = b"POST /predict HTTP/1.1\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


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

    def read_request(self, caller: socket.socket) -> None:
        """Let the newest caller send a request, and read it."""
        caller.sendall(REQUEST)
        assert len(self.accepted[-1].recv(len(REQUEST), socket.MSG_WAITALL)) == len(REQUEST)

    def die(self) -> None:
        """End like a killed process."""
        for connection in self.accepted:
            connection.close()
        self.channel.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    found = Worker(tmp_path / "connections-0")
    with ExitStack() as stack:
        stack.callback(found.listener.close)
        stack.callback(found.die)
        yield found


def read_all(caller: socket.socket) -> bytes:
    with caller:
        return b"".join(iter(lambda: caller.recv(65536), b""))


def test_only_requests_without_an_answer_are_answered_for_a_dead_worker(worker: Worker) -> None:
    waiting, _ = worker.connect()
    worker.read_request(waiting)
    answered, slot = worker.connect()
    worker.read_request(answered)
    worker.board.notes.set_answer(slot, Note(0, len(ANSWER), len(REQUEST)))
    worker.accepted[-1].sendall(ANSWER)
    unread, _ = worker.connect()
    unread.sendall(REQUEST)
    idle, _ = worker.connect()
    worker.die()
    assert read_all(unread).startswith(b"HTTP/1.1 503 ")
    head, _, body = read_all(waiting).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"content-length: {len(body)}".encode() in head
    assert b'"kind": "worker_died"' in body
    assert (read_all(idle), read_all(answered)) == (b"", ANSWER)
    assert worker.keeper.finish() == 2


def test_request_that_arrives_just_after_the_death_is_answered(worker: Worker) -> None:
    caller, slot = worker.connect()
    worker.read_request(caller)
    worker.board.notes.set_answer(slot, Note(0, len(ANSWER), len(REQUEST)))
    worker.accepted[-1].sendall(ANSWER)
    caller.sendall(REQUEST)  # the keeper finds it unread, before or after the worker dies
    worker.die()
    assert read_all(caller).startswith(ANSWER + b"HTTP/1.1 503 ")
    assert worker.keeper.finish() == 1


def test_connection_that_the_worker_closes_is_closed_for_its_caller(worker: Worker) -> None:
    caller, slot = worker.connect()
    worker.accepted[-1].close()
    worker.board.close(slot)
    assert read_all(caller) == b""
    worker.die()
    assert worker.keeper.finish() == 0


def test_slot_is_used_again_without_the_state_of_the_connection_before(worker: Worker) -> None:
    for _ in range(50):
        caller, slot = worker.connect()
        worker.board.notes.set_answer(slot, Note(0, 100, 100))
        worker.accepted[-1].close()
        worker.board.close(slot)
        caller.close()
    caller, _ = worker.connect()
    worker.die()
    assert read_all(caller) == b""
    assert worker.keeper.finish() == 0


@pytest.mark.parametrize(
    ("note", "state"),
    [
        (Note(0, 0, 0), State.BROKEN),
        (Note(0, len(ANSWER), len(REQUEST)), State.IDLE),
        (Note(0, len(ANSWER), 0), State.WAITING),
        (Note(len(ANSWER), len(ANSWER), 0), State.WAITING),
        (Note(len(ANSWER), 2 * len(ANSWER), len(REQUEST)), State.WAITING),
        (Note(0, 2 * len(ANSWER), len(REQUEST)), State.BROKEN),
        (Note(0, len(ANSWER), UNDER_WAY), State.BROKEN),
        (Note(len(ANSWER), 2 * len(ANSWER), UNDER_WAY), State.WAITING),
        (Note(UNDER_WAY, 2 * len(ANSWER), UNDER_WAY), State.BROKEN),
        (Note(UNDER_WAY, len(ANSWER), len(REQUEST)), State.IDLE),
    ],
)
def test_state_follows_from_the_note_and_the_bytes_on_the_wire(worker: Worker, note: Note, state: State) -> None:
    caller, _ = worker.connect()
    worker.read_request(caller)
    own = worker.accepted[-1]
    own.sendall(ANSWER)
    assert state_of(own, note) is state
    caller.shutdown(socket.SHUT_WR)
    assert own.recv(1) == b""  # the end of the connection does not count as a request
    assert state_of(own, note) is state


def test_worker_killed_at_some_lines_leaves_a_whole_answer_or_a_503(tmp_path: Path) -> None:
    found = statuses_of_killed_workers(tmp_path, step=7)
    assert found[-1] == [200, 200]
    assert {tuple(each) for each in found[:-1]} == {(503,), (200, 503)}
