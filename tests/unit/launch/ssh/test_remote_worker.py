"""Worker on another host as the launcher sees it; shells that print an agent's messages replace SSH."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from farandole.launch.ssh import remote_worker
from farandole.launch.ssh.remote_worker import RemoteWorker, parse_worker_command
from farandole.process.messages import MESSAGE_PREFIX, Exited, WorkerMessage, parse_line


def _print(**data: Any) -> str:
    return f"printf '%s\\n' '{MESSAGE_PREFIX}{json.dumps(data)}'"


class Observed:
    """A remote worker in a thread, with its forwarded lines and its messages."""

    def __init__(self, script: str, limit_s: float = 60.0) -> None:
        self.lines: list[str] = []
        self.messages: list[WorkerMessage] = []
        self.worker = RemoteWorker(
            "node1",
            ["/bin/sh", "-c", script],
            {"do": "run_worker", "rank": 2},
            limit_s,
            lambda line: self.lines.append(line.decode()),
            self.messages.append,
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


def _lost(worker: Observed) -> str | None:
    (ended,) = worker.messages
    assert isinstance(ended, Exited)
    return ended.lost


def test_command_is_split_into_variables_and_program() -> None:
    command = "env HOROVOD_RANK=1 LANG='a b=c' EMPTY= python -m worker --set=x A=b"
    assert parse_worker_command(command) == (
        {"HOROVOD_RANK": "1", "LANG": "a b=c", "EMPTY": ""},
        ["python", "-m", "worker", "--set=x", "A=b"],
    )


@pytest.mark.parametrize(("exit_fields", "code"), [({"code": 0}, 0), ({"code": 7}, 7), ({"signal": 9}, 137)])
def test_exit_is_reported_with_the_time_of_the_launcher(exit_fields: dict[str, int], code: int) -> None:
    worker = Observed(f"{_print(event='agent_alive')}; {_print(event='exited', rank=2, time_s=17.0, **exit_fields)}")
    assert worker.end() == code
    (ended,) = worker.messages
    assert isinstance(ended, Exited)
    assert {name: getattr(ended, name) for name in exit_fields} == exit_fields
    assert ended.host == "node1"
    assert abs(ended.time_s - time.time()) < 60
    assert worker.lines == [], "heartbeats of the agent are not forwarded"


def test_failure_is_reported_with_the_time_of_the_launcher() -> None:
    line = f"[2]<stdout>:torn{MESSAGE_PREFIX}" + json.dumps(
        {"event": "failed", "rank": 2, "time_s": 17.0, "kind": "x", "message": "y"}
    )
    worker = Observed(f"printf '%s\\n' '{line}'")
    worker.end()
    (forwarded,) = worker.lines
    output, data = parse_line(forwarded)
    assert output == "[2]<stdout>:torn"
    assert data is not None
    assert abs(data["time_s"] - time.time()) < 60


def test_silent_host_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_worker, "_PING_S", 0.2)
    worker = Observed(f"{_print(event='agent_alive')}; exec sleep 300", limit_s=0.5)
    assert worker.end() == 255
    assert _lost(worker) == "it was silent for 0.5 s (nine tenths of resources.heartbeat_timeout_s)"


def test_error_of_a_failed_connection_is_reported() -> None:
    worker = Observed("echo 'ssh: connect to host node1: No route to host' >&2; exit 255")
    assert worker.end() == 255
    assert _lost(worker) == "ssh: connect to host node1: No route to host"
    assert worker.lines == ["node1: ssh: connect to host node1: No route to host\n"]


def test_refusal_of_the_agent_is_reported() -> None:
    worker = Observed(_print(event="refused", message="/home/x: No space left on device; free some space there"))
    worker.end()
    assert _lost(worker) == "/home/x: No space left on device; free some space there"


def test_agent_receives_its_request_pings_and_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_worker, "_PING_S", 0.2)
    script = (
        'read request; echo "$request"; while read command; do echo "$command"; [ "$command" = dump ] && exit 0; done'
    )
    worker = Observed(script)
    while "ping\n" not in worker.lines:
        time.sleep(0.05)
    worker.worker.send_command("dump")
    worker.end()
    assert json.loads(worker.lines[0]) == {"do": "run_worker", "rank": 2}
    assert worker.lines[-1] == "dump\n"


def test_malformed_messages_are_forwarded_as_output() -> None:
    line = f"[2]<stdout>:{MESSAGE_PREFIX}" + json.dumps({"event": "exited", "rank": "two"})
    worker = Observed(f"printf '%s\\n' '{line}'; exit 3")
    worker.end()
    assert worker.lines == [line + "\n"]
    assert _lost(worker) == "the SSH connection ended with exit code 3"
