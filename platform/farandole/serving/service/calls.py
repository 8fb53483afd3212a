"""One HTTP request on its way through the service, from its headers to its answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from farandole.serving.access import Caller
from farandole.serving.service.errors import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ID_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_MAX_ID = 64
CERTIFICATE = "farandole.certificate"
"""The key of the name of the client's certificate in ASGI's scope; it is missing where none was demanded."""


class Call:
    """A request, what is known of it so far, and what the log will say of it.

    Args:
        scope: ASGI's scope.
        receive: ASGI's function for the body.
    """

    __slots__ = (
        "caller",
        "certificate",
        "charged",
        "digest",
        "error",
        "headers",
        "kind",
        "model",
        "receive",
        "request_id",
        "route",
        "rows",
        "scope",
        "started_s",
        "version",
    )

    def __init__(self, scope: Message, receive: Receive) -> None:
        self.scope, self.receive = scope, receive
        self.started_s = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = _request_id(self.headers.get(b"x-request-id"))
        self.caller: Caller | None = None
        self.certificate: str | None = scope.get(CERTIFICATE)
        self.route = "other"
        self.model = self.version = self.digest = ""
        self.rows = self.charged = 0
        self.kind: str | None = None
        self.error: str | None = None

    @property
    def media_type(self) -> str:
        """The type of the body, without parameters."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

    def accepts(self, media_types: frozenset[str]) -> bool:
        """Return whether the caller asks for one of these types in its `Accept` header."""
        found = self.headers.get(b"accept")
        if not found:
            return False
        return any(part.partition(";")[0].strip().lower() in media_types for part in found.decode("latin-1").split(","))

    async def body(self, max_bytes: int, within_s: float) -> bytes:
        """Read the body.

        Raises:
            RequestError: It is too large, arrives too slowly, or its caller is gone.
        """
        length = self.headers.get(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > max_bytes:
            raise _too_large(max_bytes)
        deadline_s = time.monotonic() + within_s
        message = await self._within(self.receive(), within_s)
        parts, size = [], 0
        while True:
            if message["type"] != "http.request":
                raise RequestError(400, "the caller closed the connection", kind="disconnected")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > max_bytes:
                raise _too_large(max_bytes)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            message = await self._within(self.receive(), deadline_s - time.monotonic())

    @staticmethod
    async def _within(receiving: Awaitable[Message], within_s: float) -> Message:
        try:
            async with asyncio.timeout(within_s):
                return await receiving
        except TimeoutError:
            raise RequestError(408, "the body did not arrive in time; send it faster", headers=_CLOSE) from None


_CLOSE = {"connection": "close"}


def _too_large(max_bytes: int) -> RequestError:
    # what is left of the body is not read
    return RequestError(413, f"the body is larger than {max_bytes} bytes; send fewer rows at once", headers=_CLOSE)


def _request_id(given: bytes | None) -> str:
    """Return the caller's id of the request if it is harmless, or else a new one."""
    if given and len(given) <= _MAX_ID and _ID_CHARACTERS.issuperset(given):
        return given.decode("ascii")
    return os.urandom(8).hex()
