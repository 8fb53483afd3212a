from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from farandole.serving.service import answer_transport
from farandole.serving.service.answer_transport import AnswerTransport


class Recorder(asyncio.Transport):
    """A transport that records what it is asked to do."""

    def __init__(self) -> None:
        super().__init__({"peername": "somebody"})
        self.done: list[Any] = []

    def write(self, data: Any) -> None:
        self.done.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.done.append(b"".join(list_of_data))

    def close(self) -> None:
        self.done.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.done


def recorded() -> tuple[AnswerTransport, list[Any]]:
    """Return a transport, and its notes and writes in order."""
    below = Recorder()
    return AnswerTransport(below, lambda size, is_end: below.done.append((size, is_end))), below.done


def test_head_and_body_are_one_write_that_is_noted_before() -> None:
    transport, done = recorded()
    transport.write(b"head")
    transport.write(b"body")
    assert done == []
    transport.end_answer()
    transport.end_answer()
    assert done == [(8, True), b"headbody"]


def test_long_answer_is_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_transport, "_LONGEST", 10)
    transport, done = recorded()
    for part in (b"head", b"x" * 7, b"y" * 3, b""):
        transport.write(part)
    transport.end_answer()
    assert done == [(11, False), b"head" + b"x" * 7, (3, True), b"yyy"]


def test_interim_answer_is_not_kept() -> None:
    transport, done = recorded()
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert done == [(25, None), b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_parts_are_written_before_the_connection_is_closed_and_not_afterwards() -> None:
    transport, done = recorded()
    transport.write(b"refusal")
    transport.close()
    transport.write(b"late")
    transport.end_answer()
    assert done == [(7, True), b"refusal", "closed"]
    assert transport.is_closing()
    assert transport.get_extra_info("peername") == "somebody"
