"""Which hosts there are, which answer, and how workers are dealt to them."""

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
    """An `ssh` that reaches the hosts whose names begin with `up`, and notes what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    asked = tmp_path / "asked"
    _script(
        folder / "ssh",
        f'echo "$@" >> {asked}\ncase "$*" in *" up"*) exit 0;; *) echo "no route to host" >&2; exit 255;; esac',
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return asked


def test_without_a_list_this_machine_has_room_for_all() -> None:
    assert survey_hosts(None, 3).answering == (Host("localhost", 3),)


def test_a_list_in_the_spec_is_read_with_and_without_slots() -> None:
    found = survey_hosts(Hosts(fixed=("localhost:2", "127.0.0.1")), 9)
    assert found.answering == (Host("localhost", 2), Host("127.0.0.1", 1))
    assert found.slots == 3


def test_a_host_that_is_listed_twice_has_the_slots_of_both(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# ours\nlocalhost:2\n\nlocalhost slots=1 # more\n")
    assert survey_hosts(Hosts(file=str(file)), 9).answering == (Host("localhost", 3),)


def test_a_file_that_changes_is_looked_at_at_once(tmp_path: Path) -> None:
    """A cluster's launcher writes a worker's pod into it as soon as it is ready."""
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
    waiting.join(30)
    assert not waiting.is_alive()
    wait_for_hosts_change(source, known, 3600.0)  # what changed before the wait began counts as well


def test_other_lists_are_waited_for_to_the_end() -> None:
    for source in (None, Hosts(fixed=("a:1",))):
        begun_s = time.monotonic()
        wait_for_hosts_change(source, read_hosts_file(source), 0.3)
        assert time.monotonic() - begun_s >= 0.3


def test_a_script_is_asked_anew_each_time(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    source = Hosts(script=_script(tmp_path / "discover", f"cat {answer}"))
    answer.write_text("localhost:3\n")
    assert survey_hosts(source, 9).slots == 3
    answer.write_text("localhost:2\n")
    assert survey_hosts(source, 9).slots == 2


def test_hosts_that_do_not_answer_are_left_out_with_the_reason(ssh: Path) -> None:
    found = survey_hosts(Hosts(fixed=("down1:2", "up1:2", "localhost:1")), 9)
    assert found.answering == (Host("up1", 2), Host("localhost", 1))
    ((host, reason),) = found.silent
    assert host == Host("down1", 2)
    assert reason.startswith("no route to host; look whether it runs, its SSH server listens, and no firewall is ")
    assert str(found) == f"answering: up1:2, localhost:1; down1 does not ({reason})"
    asked = ssh.read_text()
    assert "BatchMode=yes" in asked
    assert "localhost" not in asked, "this machine needs no question"


def test_a_script_that_fails_may_do_better_next_time(tmp_path: Path) -> None:
    found = survey_hosts(Hosts(script=_script(tmp_path / "discover", "echo 'no API server' >&2; exit 4")), 9)
    assert found.slots == 0
    assert found.problem is not None
    assert found.problem.endswith("discover ended with exit code 4: no API server")


def test_a_script_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_SCRIPT_S", 0.2)
    found = survey_hosts(Hosts(script=_script(tmp_path / "discover", "exec sleep 60")), 9)
    assert found.problem is not None
    assert "printed no hosts within" in found.problem


def test_a_source_that_can_never_be_read_is_the_users_error(tmp_path: Path) -> None:
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
def test_workers_fill_the_hosts_in_order_and_no_slot_is_left_over(workers: int, expected: str) -> None:
    listed = (Host("a", 2), Host("b", 2), Host("c", 4))
    assert ",".join(map(str, allocate(listed, workers))) == expected
