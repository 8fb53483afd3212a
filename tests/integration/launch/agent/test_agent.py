"""The agent as a process, started as SSH does: requests on standard input, answers on standard output."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from farandole.launch.agent.messages import Answer, Listening, Refused
from farandole.launch.agent.probe import versions
from farandole.launch.code_archive import pack
from farandole.launch.ssh.client import parse_agent_line
from farandole.process.orphans import GANG_VARIABLE

COMMAND = [sys.executable, "-m", "farandole.launch.agent"]


def _ask(request: dict[str, Any], body: bytes = b"") -> dict[str, Any]:
    sent = json.dumps(request).encode() + b"\n" + body
    done = subprocess.run(COMMAND, input=sent, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    (message,) = [message for line in done.stdout.decode().splitlines() if (message := parse_agent_line(line))]
    if isinstance(message, Answer):
        return message.answer
    assert isinstance(message, Refused)
    return {"refused": message.message}


@pytest.fixture
def home(farandole_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSH_CONNECTION", "127.0.0.1 50000 127.0.0.1 22")
    return farandole_home


def test_probe_returns_the_state_of_the_host(home: Path, tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    answer = _ask({"do": "probe", "code": "ab", "checkpoints": str(tmp_path), "marker": "probe", "dataset": "/nowhere"})
    assert answer["versions"] == versions()
    assert answer["home"] == str(home)
    assert abs(answer["time_s"] - time.time()) < 60
    assert (answer["writable"], answer["has_code"], answer["address"]) == (True, False, "127.0.0.1")
    assert answer["checkpoints"] == {"shared": True}
    assert "/nowhere" in answer["dataset"]["problem"]
    assert _ask({"do": "probe", "checkpoints": str(tmp_path), "marker": "other"})["checkpoints"] == {"shared": False}


def test_folder_is_received_and_kept(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "network.py").write_text("x = 1\n")
    archive = pack(folder)
    request = {"do": "receive_code", "digest": archive.digest, "size_bytes": len(archive.data)}
    received = Path(_ask(request, archive.data)["directory"])
    assert received == home / "code" / archive.digest
    assert (received / "network.py").read_text() == "x = 1\n"
    assert _ask({"do": "probe", "code": archive.digest})["has_code"]
    damaged = _ask({**request, "digest": "0" * 64}, archive.data)
    assert "arrived damaged: its digest is " in damaged["refused"]


def test_probe_kills_processes_of_an_earlier_attempt(home: Path) -> None:
    orphan = subprocess.Popen(
        ["sleep", "300"], env={**os.environ, GANG_VARIABLE: "node1:/jobs/x"}, start_new_session=True
    )
    _ask({"do": "probe", "mark": "node1:/jobs/other"})
    assert orphan.poll() is None
    _ask({"do": "probe", "mark": "node1:/jobs/x"})
    assert orphan.wait(60) == -9


def test_unknown_request_is_refused(home: Path, tmp_path: Path) -> None:
    answer = _ask({"do": "dance"})
    expected = "its farandole cannot dance: it is another version; install the version that is used here"
    assert answer == {"refused": expected}


def test_unusable_home_is_reported(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("a file")
    answer = _ask({"do": "probe"})
    assert answer == {"refused": f"{home}: File exists"}


def test_agents_connect_to_each_other(home: Path) -> None:
    listening = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert listening.stdin is not None
    assert listening.stdout is not None
    listening.stdin.write(b'{"do": "listen"}\n')
    listening.stdin.flush()
    message = parse_agent_line(listening.stdout.readline().decode())
    assert isinstance(message, Listening)
    assert message.address == "127.0.0.1"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        targets = {"node1": [None, message.port], "node2": ["127.0.0.1", closed.getsockname()[1]]}
        problems = _ask({"do": "connect", "targets": targets, "timeout_s": 5})["problems"]
    assert list(problems) == ["node2"]
    assert problems["node2"].endswith("Connection refused")
    listening.stdin.close()
    assert listening.wait(60) == 0
