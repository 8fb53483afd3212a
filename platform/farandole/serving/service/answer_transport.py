"""A connection on which every answer is one write: head and body together, and never one without the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_LONGEST = 2**20
"""Bytes that wait for the rest of their answer; longer answers are written in parts."""
_INTERIM = b"HTTP/1.1 100 "


class AnswerTransport(asyncio.Transport):
    """A transport that keeps the parts of an answer until it is complete.

    uvicorn writes the head and each part of a body by itself. A process that is killed between two of these writes
    leaves a caller with a part of an answer, after which nobody can say anything else on the connection.

    Args:
        transport: The transport of the event loop.
        on_write: Is called before each write with the number of its bytes, and whether it ends the answer; None where
            the write belongs to no answer.
    """

    def __init__(self, transport: asyncio.Transport, on_write: Callable[[int, bool | None], None]) -> None:
        super().__init__()
        self._transport, self._on_write = transport, on_write
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> None:
        """Keep a part of an answer, or write what has grown too long to be kept."""
        if data.startswith(_INTERIM) and not self._parts:
            self._on_write(len(data), None)
            self._transport.write(data)
            return
        if data:
            self._parts.append(data)
            self._size += len(data)
            if self._size > _LONGEST:
                self._flush(is_end=False)

    def end_answer(self) -> None:
        """Write the answer, or the rest of it."""
        self._flush(is_end=True)

    def _flush(self, *, is_end: bool) -> None:
        if self._parts and not self._transport.is_closing():
            self._on_write(self._size, is_end)
            self._transport.writelines(self._parts)
        self._parts, self._size = [], 0

    def close(self) -> None:
        """Write what is kept, and close the connection."""
        self._flush(is_end=True)
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of itself."""
        return self._transport.get_extra_info(name, default)
