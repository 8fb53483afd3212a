from __future__ import annotations

import asyncio
from typing import Any

import pytest

from farandole.serving.service.calls import Call
from farandole.serving.service.errors import RequestError


def call(*parts: dict[str, Any], headers: dict[str, str] | None = None, pause_s: float = 0.0) -> Call:
    messages = list(parts)

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.sleep(pause_s or 3600)
        return messages.pop(0)

    found = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Call({"headers": found}, receive)


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_body_is_put_together() -> None:
    assert asyncio.run(call(part(b"ab", True), part(b"", True), part(b"c")).body(10, 60)) == b"abc"


@pytest.mark.parametrize(
    ("parts", "headers", "status"),
    [
        ([part(b"x" * 11)], {}, 413),
        ([part(b"x" * 6, True), part(b"x" * 6, True)], {}, 413),
        ([], {"content-length": "11"}, 413),
        ([], {"content-length": "9" * 5000}, 413),
        ([part(b"x", True)], {}, 408),
        ([{"type": "http.disconnect"}], {}, 400),
    ],
    ids=["large", "large in parts", "announced", "absurd", "slow", "gone"],
)
def test_body_that_is_too_large_or_too_slow_is_refused(
    parts: list[dict[str, Any]], headers: dict[str, str], status: int
) -> None:
    with pytest.raises(RequestError) as refused:
        asyncio.run(call(*parts, headers=headers).body(10, 0.05 if status == 408 else 60))
    assert refused.value.status == status


@pytest.mark.parametrize("given", ["a b", "x" * 65, 'a"b', "", "é"])
def test_id_of_a_request_is_the_callers_only_if_it_is_harmless(given: str) -> None:
    assert call(headers={"x-request-id": "job-7.a_b"}).request_id == "job-7.a_b"
    assert call(headers={"x-request-id": given}).request_id != given
    assert len(call().request_id) == 16


def test_types_are_read_from_headers() -> None:
    found = call(headers={"content-type": "Application/JSON; charset=utf-8", "accept": "text/html, a/b;q=0.5"})
    assert found.media_type == "application/json"
    assert found.accepts(frozenset({"a/b"}))
    assert not found.accepts(frozenset({"b/a"}))
