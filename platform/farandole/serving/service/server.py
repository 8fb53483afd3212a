"""uvicorn, with limits for the heads of requests and an end that loses nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from farandole.serving.access import certificate_name
from farandole.serving.service.answer_transport import AnswerTransport
from farandole.serving.service.calls import CERTIFICATE
from farandole.serving.service.connections import UNDER_WAY, ConnectionBoard, Note
from farandole.serving.service.settings import RequestLimits

_KEEP_ALIVE_S = 75
_BACKLOG = 2048
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """A connection whose heads must arrive soon and be short: uvicorn itself waits for ever, and keeps any size.

    Every answer is one write, and is noted before, for the case that the process is killed.
    """

    limits = RequestLimits()
    board: ConnectionBoard | None = None
    slot: int | None = None
    certificate: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first head."""
        super().connection_made(transport)
        if self.board is not None:
            self.slot = self.board.open(transport.get_extra_info("socket").fileno())
        tls = transport.get_extra_info("ssl_object")
        content = tls.getpeercert(binary_form=True) if tls is not None else None
        self.certificate = certificate_name(content) if content else None
        self._answers = AnswerTransport(transport, self._note_write)
        self.transport = self._answers
        self._head_bytes = self._waiting = 0
        self._read_bytes = self._answered_bytes = self._written_bytes = 0
        self._is_under_way = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        self._stop_head()
        super().connection_lost(exc)
        if self.board is not None and self.slot is not None:
            self.board.close(self.slot)
            self.slot = None

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head."""
        self._read_bytes += len(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            super().data_received(data)
            # a body that arrives with its head is not counted: then the head is complete
            if self._head_timer is not None and self._head_bytes > self.limits.max_head_bytes:
                self._refuse(_TOO_LARGE)
        else:
            super().data_received(data)
        if self._waiting == 0 and self.board is not None and self.slot is not None:
            self._answered_bytes = self._read_bytes
            self.board.notes.set_read(self.slot, self._read_bytes)

    def on_message_begin(self) -> None:
        """Start the time of a later head."""
        super().on_message_begin()
        if self.certificate is not None:
            cast("dict[str, object]", self.scope)[CERTIFICATE] = self.certificate
        self._waiting += 1
        if self._head_timer is None:
            self._start_head()

    def on_headers_complete(self) -> None:
        """Stop the time: the rest of the request has limits of its own."""
        self._stop_head()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Write the answer."""
        self._answers.end_answer()
        self._waiting -= 1
        super().on_response_complete()

    def _note_write(self, size: int, is_end: bool | None) -> None:
        """Note what is about to be written: see `AnswerTransport`."""
        begin = self._written_bytes
        self._written_bytes += size
        if self.board is None or self.slot is None:
            return
        if is_end and self._waiting <= 1:
            self._answered_bytes = self._read_bytes  # otherwise, another request waits already
        self._is_under_way, was_under_way = is_end is False, self._is_under_way
        self.board.notes.set_answer(
            self.slot,
            Note(
                begin=UNDER_WAY if was_under_way else begin,
                end=self._written_bytes,
                read=UNDER_WAY if self._is_under_way else self._answered_bytes,
            ),
        )

    def _start_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.limits.header_s, self._refuse, _TOO_SLOW)

    def _stop_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._stop_head()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def limited_protocol(limits: RequestLimits, board: ConnectionBoard | None) -> type[LimitedProtocol]:
    """Return the protocol with these limits."""
    return type("ServiceProtocol", (LimitedProtocol,), {"limits": limits, "board": board})


class DrainingServer(uvicorn.Server):
    """A server that ends slowly: for a moment after SIGTERM, it closes each connection after the next answer.

    So clients that keep connections open find a closed one, instead of losing a request to one that is being closed.

    Args:
        config: uvicorn's settings.
        drain_s: The length of that moment, in seconds.
        on_drain: Is called when it begins.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float, on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s, self._on_drain = drain_s, on_drain
        self._end_s: float | None = None
        self._is_draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal changes nothing.

        A signal interrupts whatever the process does, with the locks that it holds: the rest waits for the next tick.
        """
        if self._end_s is None:
            self._end_s = time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Return whether the moment is over."""
        if self._end_s is not None and not self._is_draining:
            self._is_draining = True
            self._on_drain()
        is_over = self._end_s is not None and time.monotonic() >= self._end_s
        return await super().on_tick(counter) or is_over


def make_config(
    app: Any, limits: RequestLimits, deadline_s: float, tls: dict[str, Any], board: ConnectionBoard | None
) -> uvicorn.Config:
    """Return uvicorn's settings for a worker."""
    return uvicorn.Config(
        app,
        http=limited_protocol(limits, None if tls else board),
        ws="none",
        loop="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(deadline_s + limits.body_s) + 1,
        **tls,
    )
