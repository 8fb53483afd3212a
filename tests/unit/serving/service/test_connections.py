from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from farandole.serving.service import connections
from farandole.serving.service.connections import CLOSED, MESSAGE, OPENED, ConnectionBoard, Note, Notes


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with own, other:
        yield own, other


def messages(supervisor: socket.socket, count: int) -> list[tuple[int, int]]:
    """Return messages of a worker: their kinds and slots."""
    supervisor.settimeout(60)
    found = []
    for _ in range(count):
        content, descriptors, _, _ = socket.recv_fds(supervisor, MESSAGE.size, 1)
        for descriptor in descriptors:
            os.close(descriptor)
        kind, slot = MESSAGE.unpack(content)
        assert len(descriptors) == (1 if kind == OPENED else 0)
        found.append((kind, slot))
    return found


def test_notes_are_shared_and_keep_apart(tmp_path: Path) -> None:
    own, other = Notes(tmp_path / "board"), Notes(tmp_path / "board")
    own.set_answer(1, Note(10, 20, 30))
    own.set_read(2, 7)
    assert [other[slot] for slot in range(4)] == [(0, 0, 0), (10, 20, 30), (0, 0, 7), (0, 0, 0)]
    own.clear(1)
    assert other[1] == Note(0, 0, 0)
    assert own[connections.SLOTS - 1] == Note(0, 0, 0)


def test_supervisor_learns_of_each_connection_and_of_its_end(
    channel: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    own, supervisor = channel
    board = ConnectionBoard(tmp_path / "board", own)
    with socket.create_server(("127.0.0.1", 0)) as connection:
        first, second = board.open(connection.fileno()), board.open(connection.fileno())
    assert first is not None
    board.close(first)
    assert messages(supervisor, 3) == [(OPENED, first), (OPENED, second), (CLOSED, first)]
    assert first != second


def test_end_that_finds_no_room_is_reported_later(channel: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    own, supervisor = channel
    board = ConnectionBoard(tmp_path / "board", own)
    with socket.create_server(("127.0.0.1", 0)) as connection:
        slot = board.open(connection.fileno())
        assert slot is not None
        assert messages(supervisor, 1) == [(OPENED, slot)]
        sent = 0
        while True:  # until the supervisor, which reads nothing, has no room left
            try:
                own.send(MESSAGE.pack(CLOSED, 0))
            except BlockingIOError:
                break
            sent += 1
        board.close(slot)
        assert board.open(connection.fileno()) is None
        assert len(messages(supervisor, sent)) == sent
        board.send_ends()
        assert messages(supervisor, 1) == [(CLOSED, slot)]
        assert board.open(connection.fileno()) is not None


def test_worker_without_a_supervisor_keeps_its_connections_to_itself(
    channel: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    own, supervisor = channel
    supervisor.close()
    board = ConnectionBoard(tmp_path / "board", own)
    with socket.create_server(("127.0.0.1", 0)) as connection:
        assert board.open(connection.fileno()) is None
