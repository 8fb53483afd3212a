from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from farandole.serving.access.http_guards import SECURITY_HEADERS, BodyLimit, SecurityHeaders

Message = dict[str, Any]


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body's length, as a service that reads whole bodies does."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RuntimeError("the client is gone")
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=5")]})
    await send({"type": "http.response.body", "body": str(length).encode()})


def _call(app: Any, chunks: list[bytes], headers: Any = (), pause_s: float = 0.0) -> list[Message]:
    sent: list[Message] = []
    left = list(chunks)

    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "headers": list(headers)}, receive, send))
    return sent


def _status(sent: list[Message]) -> tuple[int, str]:
    return sent[0]["status"], json.loads(sent[1]["body"])["code"]


def test_body_within_the_limit_passes() -> None:
    sent = _call(BodyLimit(_echo, max_bytes=10), [b"12345", b"67890"], [(b"content-length", b"10")])
    assert (sent[0]["status"], sent[1]["body"]) == (200, b"10")


def test_stated_length_beyond_the_limit_is_refused_before_the_body_is_read() -> None:
    sent = _call(BodyLimit(_echo, max_bytes=10), [], [(b"content-length", b"11")])
    assert _status(sent) == (413, "body_too_large")
    assert (b"connection", b"close") in sent[0]["headers"]


def test_chunked_body_beyond_the_limit_is_refused_once() -> None:
    sent = _call(BodyLimit(_echo, max_bytes=10), [b"12345"] * 3 + [b"never read"])
    assert _status(sent) == (413, "body_too_large")
    assert len(sent) == 2


def test_body_longer_than_it_states_is_refused() -> None:
    assert _status(_call(BodyLimit(_echo, max_bytes=4), [b"12345"], [(b"content-length", b"3")]))[0] == 413


@pytest.mark.parametrize("value", [b"-1", b"1e3", b"", b"1" * 30, "٣".encode()])
def test_length_that_is_not_a_number_is_refused(value: bytes) -> None:
    sent = _call(BodyLimit(_echo, max_bytes=10), [b""], [(b"content-length", value)])
    assert _status(sent) == (400, "bad_length")


def test_slow_body_is_refused() -> None:
    app = BodyLimit(_echo, max_bytes=10**6, within_s=0.2)
    assert _status(_call(app, [b"x"] * 1000, pause_s=0.05)) == (408, "body_too_slow")


def test_error_of_the_service_is_not_hidden() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        _call(BodyLimit(broken, max_bytes=10), [b""])


def test_answer_that_has_begun_is_cut_off() -> None:
    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        await send({"type": "http.response.body", "body": b"late"})

    assert [message["type"] for message in _call(BodyLimit(streaming, max_bytes=1), [b"123"])] == [
        "http.response.start"
    ]


def test_every_answer_has_the_security_headers() -> None:
    sent = _call(SecurityHeaders(_echo), [b""])
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert headers == {**SECURITY_HEADERS, "cache-control": "max-age=5"}
    assert len(sent[0]["headers"]) == len(headers)


def test_refusal_of_a_body_has_the_security_headers_too() -> None:
    sent = _call(SecurityHeaders(BodyLimit(_echo, max_bytes=1), is_tls=True), [b"123"])
    headers = dict(sent[0]["headers"])
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"strict-transport-security"].startswith(b"max-age=")


@pytest.mark.parametrize("guard", [SecurityHeaders, lambda app: BodyLimit(app, max_bytes=1)])
def test_start_and_end_of_the_service_pass(guard: Any) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(guard(app)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
