"""Worker processes: real ones, with every kind of exit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from farandole.launch import processes
from farandole.launch.processes import WorkerProcesses
from farandole.launch.ssh import remote_worker
from farandole.launch.ssh.remote_worker import RemoteWorker
from farandole.process.messages import parse_line
from tests.support.queued import wait_for_end, wait_until


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the last output of a worker, however late the thread that reads it gets a processor."""
    monkeypatch.setattr(processes, "_DRAIN_S", 60.0)


class Launched:
    """One worker that runs some code, started as by Horovod's launcher."""

    def __init__(self, code: str, rank: int = 3) -> None:
        self.processes = WorkerProcesses(None, lambda name: name == "localhost")
        self._thread = threading.Thread(target=self._run, args=(code, rank))
        self.status = 0
        self._thread.start()

    def _run(self, code: str, rank: int) -> None:
        slot = SimpleNamespace(rank=rank, hostname="localhost")
        self.status, _ = self.processes.execute(f"env A='b c' {sys.executable} -c '{code}'", slot)

    def end(self) -> int:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.status


def _split(text: str) -> tuple[list[str], list[dict[str, Any]]]:
    plain, messages = [], []
    for line in text.splitlines():
        output, data = parse_line(line)
        if data is None:
            plain.append(output)
        else:
            messages.append(data)
    return plain, messages


@pytest.mark.parametrize(
    ("code", "status", "exit_fields"),
    [
        ("pass", 0, {"code": 0}),
        ("raise SystemExit(7)", 7, {"code": 7}),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, {"signal": 9}),
        ("import os; os.abort()", 134, {"signal": 6}),
    ],
)
def test_start_and_exit_of_a_worker_are_reported(
    code: str, status: int, exit_fields: dict[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert Launched(code).end() == status
    _, (started, ended) = _split(capfd.readouterr().out)
    assert (started["event"], started["rank"]) == ("started", 3)
    assert (ended["event"], ended["rank"]) == ("exited", 3)
    assert {name: ended[name] for name in exit_fields} == exit_fields
    assert abs(ended["time_s"] - time.time()) < 60


def test_output_is_forwarded_with_its_rank_and_stream(capfd: pytest.CaptureFixture[str]) -> None:
    code = 'import os, sys; print(os.environ["A"], flush=True); sys.stderr.write("torn")'
    Launched(code).end()
    plain, _ = _split(capfd.readouterr().out)
    assert sorted(plain) == ["[3]<stderr>:torn", "[3]<stdout>:b c"]


def test_exit_is_noticed_although_a_child_holds_the_pipe_open(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_DRAIN_S", 0.1)
    mark = tmp_path / "pid"
    code = (
        'import subprocess; child = subprocess.Popen(["sleep", "300"], start_new_session=True);'
        f'open("{mark}", "w").write(str(child.pid))'
    )
    assert Launched(code).end() == 0
    child = psutil.Process(int(mark.read_text()))
    assert child.status() != psutil.STATUS_ZOMBIE, "it still holds the pipe"
    child.kill()


def test_process_group_of_a_worker_is_killed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mark = tmp_path / "pid"
    code = (
        'import subprocess, os; child = subprocess.Popen(["sleep", "300"]);'
        f'open("{mark}", "w").write(str(child.pid)); os._exit(3)'
    )
    assert Launched(code).end() == 3
    wait_for_end(int(mark.read_text()))


def test_stop_can_be_handled_and_kill_cannot(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    saving = (
        "import signal, time, os; signal.signal(signal.SIGTERM, lambda *_: os._exit(42));"
        f'open("{mark}", "w"); time.sleep(300)'
    )
    launched = Launched(saving)
    wait_until(mark.exists)
    launched.processes.stop()
    assert launched.end() == 42

    mark.unlink()
    suspended = (
        "import signal, time, os; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f'open("{mark}", "w"); os.kill(os.getpid(), signal.SIGSTOP)'
    )
    launched = Launched(suspended)
    wait_until(mark.exists)
    launched.processes.stop()
    launched.processes.kill(3)
    assert launched.end() == 128 + signal.SIGKILL


def test_no_worker_starts_after_a_stop(capfd: pytest.CaptureFixture[str]) -> None:
    workers = WorkerProcesses(None, lambda name: True)
    workers.stop()
    status, _ = workers.execute("env true", SimpleNamespace(rank=0, hostname="localhost"))
    assert status == 128 + signal.SIGTERM


def test_remote_worker_receives_its_command_and_all_others(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell that prints its input replaces SSH and the agent."""
    has_printed_kill = threading.Event()

    class PatientWorker(RemoteWorker):
        def _release(self) -> None:
            assert has_printed_kill.wait(60)
            monkeypatch.setattr(remote_worker, "_RELEASE_S", 0.2)
            super()._release()

    line = 'read first; echo "[1]<stdout>:$first"; while read command; do echo "[1]<stdout>:$command"; done'

    def create_remote(command: str, slot: Any, forward: Any, send: Any) -> RemoteWorker:
        request = {"rank": slot.rank, "command": command}

        def forward_and_look(text: bytes) -> None:
            forward(text)
            if text.endswith(b"kill\n"):
                has_printed_kill.set()

        return PatientWorker(slot.hostname, ["/bin/sh", "-c", line], request, 60, forward_and_look, send)

    workers = WorkerProcesses(create_remote, lambda name: name == "localhost")
    slot = SimpleNamespace(rank=1, hostname="node7")
    thread = threading.Thread(target=workers.execute, args=("env A=b python -m worker", slot))
    thread.start()
    text = ""
    while '"command": "env A=b python -m worker"' not in text:
        text += capfd.readouterr().out
    workers.stop()
    workers.kill(2)  # another worker
    while "stop" not in text:
        text += capfd.readouterr().out
    workers.kill(1)  # the shell ignores the command, so its process is killed
    thread.join(60)
    assert not thread.is_alive()
    plain, messages = _split(text + capfd.readouterr().out)
    assert "[1]<stdout>:kill" in plain
    (ended,) = messages
    assert (ended["event"], ended["rank"], ended["host"]) == ("exited", 1, "node7")
    assert ended["lost"] == "the SSH connection ended with exit code -9"


def test_worker_runs_to_its_end_although_nobody_reads_its_output(tmp_path: Path) -> None:
    mark = tmp_path / "saved"
    worker = f'import sys; [print("x" * 1000, flush=True) for _ in range(500)]; open("{mark}", "w")'
    program = (
        "import sys; from types import SimpleNamespace; from farandole.launch.processes import WorkerProcesses\n"
        "processes = WorkerProcesses(None, lambda name: True)\n"
        f"processes.execute(sys.executable + ' -c ' + {json.dumps(json.dumps(worker))},"
        " SimpleNamespace(rank=0, hostname='localhost'))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    launcher.stdout.readline()
    launcher.stdout.close()
    launcher.wait(60)
    assert mark.exists()
