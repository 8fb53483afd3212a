"""ASGI middleware around the service: security headers, and a limit of the body's size and of its time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[Message]]
AsgiSend = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, AsgiReceive, AsgiSend], Awaitable[None]]

SECURITY_HEADERS: dict[str, str] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
}
"""Headers of every answer, in lower case; an answer that sets one of them itself keeps its own."""

TRANSPORT_SECURITY = ("strict-transport-security", "max-age=31536000")
"""The header of answers over TLS: browsers use nothing else for a year."""


class SecurityHeaders:
    """Add the security headers to every answer.

    Args:
        app: The service.
        is_tls: Whether callers reach it by TLS only.
    """

    def __init__(self, app: AsgiApp, *, is_tls: bool = False) -> None:
        self._app = app
        headers = {**SECURITY_HEADERS, **(dict([TRANSPORT_SECURITY]) if is_tls else {})}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Message, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = list(message.get("headers", ()))
                names = {name.lower() for name, _ in present}
                message["headers"] = present + [each for each in self._headers if each[0] not in names]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """Refuse bodies that are too large (413) or arrive too slowly (408), whether or not they state their length.

    The limit holds while the body is read: of one in chunks, no more than the limit is ever kept.

    Args:
        app: The service.
        max_bytes: The largest body, in bytes.
        within_s: How long a body may take to arrive, in seconds.
    """

    def __init__(self, app: AsgiApp, *, max_bytes: int, within_s: float = 30.0) -> None:
        self._app, self._max_bytes, self._within_s = app, max_bytes, within_s

    async def __call__(self, scope: Message, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _content_length(scope["headers"])
        if length is not None and not 0 <= length <= self._max_bytes:
            await _answer(send, *self._too_large() if length >= 0 else _BAD_LENGTH)
            return
        request = _LimitedRequest(receive, send, self._max_bytes, self._within_s, self._too_large())
        try:
            await self._app(scope, request.receive, request.send)
        except Exception:
            if not request.is_refused:
                raise

    def _too_large(self) -> tuple[int, str, str]:
        return 413, "body_too_large", f"The body is larger than {self._max_bytes} bytes; send fewer rows at once."


class _LimitedRequest:
    """One request whose body is counted and timed. After a refusal, the application sees a caller who is gone."""

    def __init__(
        self, receive: AsgiReceive, send: AsgiSend, max_bytes: int, within_s: float, too_large: tuple[int, str, str]
    ) -> None:
        self._receive, self._send, self._left_bytes, self._too_large = receive, send, max_bytes, too_large
        self._within_s, self._deadline_s = within_s, asyncio.get_running_loop().time() + within_s
        self._is_complete = self._is_started = False
        self.is_refused = False

    async def receive(self) -> Message:
        if self.is_refused:
            return {"type": "http.disconnect"}
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await self._receive()
        except TimeoutError:
            return await self._refuse(
                408, "body_too_slow", f"The body did not arrive within {self._within_s:g} s; send it faster."
            )
        if message["type"] == "http.request":
            self._left_bytes -= len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
            if self._left_bytes < 0:
                return await self._refuse(*self._too_large)
        return message

    async def send(self, message: Message) -> None:
        if not self.is_refused:
            self._is_started = True
            await self._send(message)

    async def _refuse(self, status: int, code: str, text: str) -> Message:
        self.is_refused = True
        if not self._is_started:
            await _answer(self._send, status, code, text)
        return {"type": "http.disconnect"}


_BAD_LENGTH = (400, "bad_length", "The header Content-Length is not a number.")


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the stated length in bytes; None: none is stated; -1: the header is not a number."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else -1
    return None


async def _answer(send: AsgiSend, status: int, code: str, text: str) -> None:
    body = json.dumps({"error": text, "code": code}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the body is not read
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
