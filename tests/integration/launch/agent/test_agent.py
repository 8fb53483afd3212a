"""The agent as a process: what it is asked on standard input, what it answers. Started here, as SSH does elsewhere."""

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

from farandole.launch.agent.probe import versions
from farandole.launch.code_archive import pack
from farandole.process.messages import parse_line
from farandole.process.orphans import GANG_VARIABLE

COMMAND = [sys.executable, "-m", "farandole.launch.agent"]


def _ask(request: dict[str, Any], body: bytes = b"") -> dict[str, Any]:
    sent = json.dumps(request).encode() + b"\n" + body
    done = subprocess.run(COMMAND, input=sent, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    (answer,) = [data for line in done.stdout.decode().splitlines() if (data := parse_line(line)[1]) is not None]
    return answer


@pytest.fixture
def place(farandole_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSH_CONNECTION", "127.0.0.1 50000 127.0.0.1 22")
    return farandole_home


def test_it_looks_around(place: Path, tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    seen = _ask({"do": "look", "code": "ab", "checkpoints": str(tmp_path), "probe": "probe", "dataset": "/nowhere"})
    assert seen["event"] == "answer"
    assert seen["versions"] == versions()
    assert seen["home"] == str(place)
    assert abs(seen["time_s"] - time.time()) < 60
    assert (seen["writable"], seen["has_code"], seen["address"]) == (True, False, "127.0.0.1")
    assert seen["checkpoints"] == {"shared": True}
    assert "/nowhere" in seen["dataset"]["problem"]
    assert _ask({"do": "look", "checkpoints": str(tmp_path), "probe": "other"})["checkpoints"] == {"shared": False}


def test_it_takes_a_folder_once_and_keeps_it(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "network.py").write_text("x = 1\n")
    package = pack(folder)
    request = {"do": "receive", "digest": package.digest, "size_bytes": len(package.data)}
    there = Path(_ask(request, package.data)["directory"])
    assert there == place / "code" / package.digest
    assert (there / "network.py").read_text() == "x = 1\n"
    assert _ask({"do": "look", "code": package.digest})["has_code"]
    damaged = _ask({**request, "digest": "0" * 64}, package.data)
    assert damaged["event"] == "refused"
    assert "arrived damaged: its digest is " in damaged["message"]


def test_it_kills_what_an_earlier_attempt_left(place: Path) -> None:
    left = subprocess.Popen(
        ["sleep", "300"], env={**os.environ, GANG_VARIABLE: "node1:/jobs/x"}, start_new_session=True
    )
    _ask({"do": "look", "mark": "node1:/jobs/other"})
    assert left.poll() is None
    _ask({"do": "look", "mark": "node1:/jobs/x"})
    assert left.wait(60) == -9


def test_it_tells_what_it_cannot(place: Path, tmp_path: Path) -> None:
    answer = _ask({"do": "dance"})
    assert answer["event"] == "refused"
    assert answer["message"] == "its farandole cannot dance: it is another version; install the same there as here"


def test_it_says_why_it_has_no_home(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file")
    answer = _ask({"do": "look"})
    assert answer["event"] == "refused"
    assert answer["message"].startswith(f"{place}: File exists; ")


def test_one_listens_and_another_reaches_it(place: Path) -> None:
    listening = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert listening.stdin is not None
    assert listening.stdout is not None
    listening.stdin.write(b'{"do": "listen"}\n')
    listening.stdin.flush()
    _, told = parse_line(listening.stdout.readline().decode())
    assert told is not None
    assert (told["event"], told["address"]) == ("listening", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        targets = {"node1": [None, told["port"]], "node2": ["127.0.0.1", closed.getsockname()[1]]}
        problems = _ask({"do": "connect", "targets": targets, "timeout_s": 5})["problems"]
    assert list(problems) == ["node2"]
    assert problems["node2"].endswith("Connection refused")
    listening.stdin.close()
    assert listening.wait(60) == 0
