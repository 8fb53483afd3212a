"""A worker on another host, from the launcher's side. In place of SSH: shells that say what an agent says."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from farandole.launch.ssh.remote_worker import RemoteWorker, parse_worker_command
from farandole.process.messages import MESSAGE_PREFIX, parse_line


def _say(**data: Any) -> str:
    return f"printf '%s\\n' '{MESSAGE_PREFIX}{json.dumps(data)}'"


class Watched:
    """A remote worker in a thread, and what it forwards and tells."""

    def __init__(self, script: str, limit_s: float = 60.0) -> None:
        self.lines: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.worker = RemoteWorker(
            "node1",
            ["/bin/sh", "-c", script],
            {"do": "work", "rank": 2},
            limit_s,
            lambda line: self.lines.append(line.decode()),
            self.told.append,
        )
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.worker.run()

    def end(self) -> int | None:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.code


def test_variables_and_program_of_a_command_are_told_apart() -> None:
    command = "env HOROVOD_RANK=1 LANG='a b=c' EMPTY= python -m worker --set=x A=b"
    assert parse_worker_command(command) == (
        {"HOROVOD_RANK": "1", "LANG": "a b=c", "EMPTY": ""},
        ["python", "-m", "worker", "--set=x", "A=b"],
    )


@pytest.mark.parametrize(("how", "code"), [({"code": 0}, 0), ({"code": 7}, 7), ({"signal": 9}, 137)])
def test_the_agent_tells_how_the_worker_ended_by_the_launchers_clock(how: dict[str, int], code: int) -> None:
    watched = Watched(f"{_say(event='sign')}; {_say(event='exited', rank=2, time_s=17.0, **how)}")
    assert watched.end() == code
    (ended,) = watched.told
    assert {name: ended[name] for name in how} == how
    assert ended["host"] == "node1"
    assert abs(ended["time_s"] - time.time()) < 60
    assert watched.lines == [], "signs are for nobody else"


def test_failures_are_told_by_the_launchers_clock_too() -> None:
    line = f"[2]<stdout>:torn{MESSAGE_PREFIX}" + json.dumps({"event": "failed", "rank": 2, "time_s": 17.0, "kind": "x"})
    watched = Watched(f"printf '%s\\n' '{line}'")
    watched.end()
    (forwarded,) = watched.lines
    output, data = parse_line(forwarded)
    assert output == "[2]<stdout>:torn"
    assert data is not None
    assert abs(data["time_s"] - time.time()) < 60


def test_a_host_that_gives_no_sign_any_more_is_lost() -> None:
    watched = Watched(f"{_say(event='sign')}; exec sleep 300", limit_s=0.5)
    assert watched.end() == 255
    assert watched.told[0]["lost"] == "it gave no sign for 0.5 s (nine tenths of resources.heartbeat_timeout_s)"


def test_a_connection_that_fails_says_why_in_its_own_words() -> None:
    watched = Watched("echo 'ssh: connect to host node1: No route to host' >&2; exit 255")
    assert watched.end() == 255
    assert watched.told[0]["lost"] == "ssh: connect to host node1: No route to host"
    assert watched.lines == ["node1: ssh: connect to host node1: No route to host\n"]


def test_what_an_agent_refuses_is_told() -> None:
    watched = Watched(_say(event="refused", message="/home/x: No space left on device; free some space there"))
    watched.end()
    assert watched.told[0]["lost"] == "/home/x: No space left on device; free some space there"


def test_the_agent_hears_its_request_pings_and_orders() -> None:
    script = 'read request; echo "$request"; while read order; do echo "$order"; [ "$order" = dump ] && exit 0; done'
    watched = Watched(script)
    while "ping\n" not in watched.lines:
        time.sleep(0.05)
    watched.worker.order("dump")
    watched.end()
    assert json.loads(watched.lines[0]) == {"do": "work", "rank": 2}
    assert watched.lines[-1] == "dump\n"
