"""List of hosts, survey, and allocation of workers."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.launch import hosts
from farandole.launch.hosts import Host, allocate, read_hosts_file, survey_hosts, wait_for_hosts_change
from farandole.spec import Hosts


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install an `ssh` that reaches the hosts whose names begin with `up`, and records its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    arguments = tmp_path / "arguments"
    _script(
        folder / "ssh",
        f'echo "$@" >> {arguments}\ncase "$*" in *" up"*) exit 0;; *) echo "no route to host" >&2; exit 255;; esac',
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return arguments


def test_this_machine_has_slots_for_all_workers_without_a_list() -> None:
    assert survey_hosts(None, 3).answering == (Host("localhost", 3),)


def test_listed_hosts_have_one_slot_by_default() -> None:
    survey = survey_hosts(Hosts(fixed=("localhost:2", "127.0.0.1")), 9)
    assert survey.answering == (Host("localhost", 2), Host("127.0.0.1", 1))
    assert survey.slots == 3


def test_slots_of_a_host_that_is_listed_twice_are_added_up(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# hosts\nlocalhost:2\n\nlocalhost slots=1 # more\n")
    assert survey_hosts(Hosts(file=str(file)), 9).answering == (Host("localhost", 3),)


def test_waiting_ends_as_soon_as_the_file_changes(tmp_path: Path) -> None:
    """The launcher of a cluster adds a worker's pod to the file as soon as the pod is ready."""
    file = tmp_path / "hosts"
    file.write_text("a:1\n")
    source = Hosts(file=str(file))
    known = read_hosts_file(source)
    waiting = threading.Thread(target=wait_for_hosts_change, args=(source, known, 3600.0), daemon=True)
    waiting.start()
    waiting.join(0.6)
    assert waiting.is_alive(), "nothing has changed"
    (tmp_path / "new").write_text("a:1\nb:1\n")
    (tmp_path / "new").replace(file)
    waiting.join(60)
    assert not waiting.is_alive()
    wait_for_hosts_change(source, known, 3600.0)  # an earlier change counts as well


def test_waiting_takes_the_full_time_without_a_file() -> None:
    for source in (None, Hosts(fixed=("a:1",))):
        started_s = time.monotonic()
        wait_for_hosts_change(source, read_hosts_file(source), 0.3)
        assert time.monotonic() - started_s >= 0.3


def test_script_runs_for_every_survey(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    source = Hosts(script=_script(tmp_path / "discover", f"cat {answer}"))
    answer.write_text("localhost:3\n")
    assert survey_hosts(source, 9).slots == 3
    answer.write_text("localhost:2\n")
    assert survey_hosts(source, 9).slots == 2


def test_silent_hosts_are_reported_with_the_reason(ssh: Path) -> None:
    survey = survey_hosts(Hosts(fixed=("down1:2", "up1:2", "localhost:1")), 9)
    assert survey.answering == (Host("up1", 2), Host("localhost", 1))
    ((host, reason),) = survey.silent
    assert host == Host("down1", 2)
    assert reason.startswith(
        "no route to host; check that it runs, that its SSH server listens, and that no firewall is "
    )
    assert str(survey) == f"answering: up1:2, localhost:1; down1 does not answer ({reason})"
    arguments = ssh.read_text()
    assert "BatchMode=yes" in arguments
    assert "localhost" not in arguments, "this machine is not checked by SSH"


def test_failure_of_the_script_is_a_temporary_problem(tmp_path: Path) -> None:
    survey = survey_hosts(Hosts(script=_script(tmp_path / "discover", "echo 'no API server' >&2; exit 4")), 9)
    assert survey.slots == 0
    assert survey.problem is not None
    assert survey.problem.endswith("discover ended with exit code 4: no API server")


def test_hanging_script_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_SCRIPT_TIMEOUT_S", 0.2)
    survey = survey_hosts(Hosts(script=_script(tmp_path / "discover", "exec sleep 60")), 9)
    assert survey.problem is not None
    assert "printed no hosts within" in survey.problem


def test_unusable_list_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"resources\.hosts\.script: .*nowhere: No such file.*NAME:SLOTS"):
        survey_hosts(Hosts(script=str(tmp_path / "nowhere")), 9)
    with pytest.raises(SpecError, match=r"resources\.hosts\.file: .*nowhere: cannot be read .*NAME:SLOTS"):
        survey_hosts(Hosts(file=str(tmp_path / "nowhere")), 9)
    file = tmp_path / "hosts"
    file.write_text("a:2\nb:two\n")
    with pytest.raises(SpecError, match=r"hosts, line 2: 'b:two' is not a host; write NAME:SLOTS"):
        survey_hosts(Hosts(file=str(file)), 9)


@pytest.mark.parametrize(
    ("workers", "expected"),
    [(1, "a:1"), (2, "a:2"), (3, "a:2,b:1"), (5, "a:2,b:2,c:1"), (9, "a:2,b:2,c:4")],
)
def test_workers_fill_the_hosts_in_order_without_unused_slots(workers: int, expected: str) -> None:
    listed = (Host("a", 2), Host("b", 2), Host("c", 4))
    assert ",".join(map(str, allocate(listed, workers))) == expected
