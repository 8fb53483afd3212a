"""Following of a log over broken connections and several pods, with an API that breaks on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from farandole.backends.kubernetes import logs
from farandole.backends.kubernetes.cluster import ApiError, ApiUnreachableError
from farandole.backends.kubernetes.logs import LogFollower

Line = tuple[str, str]


@pytest.fixture(autouse=True)
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_POLL_S", 0.01)


@dataclass
class Api:
    """Pods with their logs; a followed log breaks after a number of lines, once for each number.

    Args:
        logs: Lines by pod.
        breaks: Number of lines after which a connection breaks.
    """

    logs: dict[str, list[Line]]
    breaks: list[int] = field(default_factory=list)
    namespace: str = "farandole"
    patience_s: float = 60.0
    asked: list[str | None] = field(default_factory=list)

    def find(self, kind: str, selector: str) -> list[dict[str, Any]]:
        wanted = selector.rpartition("farandole.dev/component=")[2] if "component" in selector else ""
        return [
            {
                "metadata": {
                    "name": name,
                    "creationTimestamp": "2026-11-25T10:00:00Z",
                    "labels": {"farandole.dev/component": name.partition("-")[0], "farandole.dev/attempt": "1"},
                },
                "status": {"phase": "Succeeded", "startTime": "2026-11-25T10:00:00Z"},
            }
            for name in self.logs
            if name.startswith(wanted)
        ]

    def log(self, pod: str, *, follow: bool, since: str | None) -> Iterator[Line]:
        self.asked.append(since)
        limit = self.breaks.pop(0) if self.breaks else None
        if not self.logs[pod]:
            raise ApiError(400, "BadRequest", "the container has not started")
        # Like the API: all lines of the second that `since` is in.
        lines = [line for line in self.logs[pod] if since is None or line[0][:19] >= since[:19]]
        for number, line in enumerate(lines):
            if number == limit:
                raise ApiUnreachableError("connection reset")
            yield line


def lines(api: Api, rank: int | None = None, *, follow: bool = True) -> list[str]:
    ends = iter([False, False, False, True])
    return list(LogFollower(api, "job", lambda: next(ends, True)).lines(rank, follow=follow))  # type: ignore[arg-type]


def second(number: int, part: int = 0) -> str:
    return f"2026-11-25T10:00:{number:02}.{part:09}Z"


def test_preparation_comes_before_the_launcher_and_ranks_are_separate() -> None:
    api = Api(
        {
            "launcher-1-x": [(second(3), "train: training"), (second(4), "[0] zero"), (second(5), "[1] one")],
            "prepare-1-x": [(second(1), "prepare: reading"), (second(2), "prepare: done")],
        }
    )
    assert lines(api, follow=False) == ["prepare: reading", "prepare: done", "train: training"]
    assert lines(api, 1, follow=False) == ["one"]


def test_broken_connection_neither_loses_nor_repeats_a_line() -> None:
    written = [(second(1, part), f"line {part}") for part in range(6)]
    written += [(second(1, 5), "line 5 as well"), (second(2), "the end")]
    api = Api({"launcher-1-x": written}, breaks=[3, 5, 7])
    assert lines(api) == [text for _, text in written]
    assert api.asked[:2] == [None, second(1, 2)]


def test_pod_that_has_not_started_is_asked_again() -> None:
    api = Api({"launcher-1-x": []})
    assert lines(api) == []
    assert len(api.asked) > 1
