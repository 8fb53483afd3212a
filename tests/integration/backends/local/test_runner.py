"""Runners as processes: what they start, how it ends, and what remains."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from benchmarks.queue.scratch_queue import processes_of
from farandole.process.orphans import find_orphans
from tests.support.queued import (
    MakeBackend,
    only_runner,
    others_of,
    runners_of,
    shell_job,
    state_of,
    wait_for_end,
    wait_for_state,
    wait_until,
)


def test_job_runs_without_its_submitter(local: MakeBackend, farandole_home: Path, tmp_path: Path) -> None:
    backend = local(f'ps -o ppid=,sid= -p $PPID > {tmp_path}/parent; echo "$0 says hello"')
    submitted = backend.submit(shell_job())
    wait_for_state(backend, submitted.id, "succeeded")
    parent, session = map(int, (tmp_path / "parent").read_text().split())
    assert parent != os.getpid()
    assert session != os.getsid(0)
    first, hello, last = backend.logs(submitted.id)
    assert first.endswith(f"starts on {os.uname().nodename}")
    assert hello == "/bin/sh says hello"
    assert last.endswith("succeeded: completed")
    wait_until(lambda: not processes_of(farandole_home))


def test_job_has_its_submitters_environment_which_is_then_removed_from_the_disk(
    local: MakeBackend, farandole_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = local(f'until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo "the key is $PEOPLE_KEY"')
    monkeypatch.setenv("PEOPLE_KEY", "first")
    first = backend.submit(shell_job())
    wait_for_state(backend, first.id, "running")
    monkeypatch.setenv("PEOPLE_KEY", "second")
    second = backend.submit(shell_job())
    kept = farandole_home / "jobs" / second.id / "start.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert json.loads(kept.read_text())["variables"]["PEOPLE_KEY"] == "second"
    (tmp_path / "go").touch()
    wait_for_state(backend, second.id, "succeeded")
    assert [line for line in backend.logs(first.id) if "key" in line] == ["the key is first"]
    assert [line for line in backend.logs(second.id) if "key" in line] == ["the key is second"]
    assert not list(farandole_home.glob("jobs/*/start.json"))
    assert b"second" not in (farandole_home / "jobs.db").read_bytes()


def test_reason_of_a_failure_is_reported(local: MakeBackend, tmp_path: Path) -> None:
    gone = local("exit 7").submit(shell_job())
    killed = local("kill -SEGV $$").submit(shell_job())
    backend = local()
    missing = type(backend)(command=["/nowhere/program"]).submit(shell_job())
    for job_id in (gone.id, killed.id, missing.id):
        wait_for_state(backend, job_id, "failed")
    assert backend.status(gone.id).reason == "its process ended with exit code 7"
    assert backend.status(killed.id).reason == "its process was killed by signal 11, SIGSEGV"
    assert backend.status(missing.id).reason.startswith("could not be started: [Errno 2] No such file or directory")


def test_processes_that_a_job_leaves_behind_end_with_it(
    local: MakeBackend, farandole_home: Path, tmp_path: Path
) -> None:
    backend = local(f"setsid sleep 600 & echo $! > {tmp_path}/child; sleep 0.2")
    submitted = backend.submit(shell_job())
    wait_for_state(backend, submitted.id, "succeeded")
    child = int((tmp_path / "child").read_text())
    wait_for_end(child)
    assert not others_of(farandole_home)


def test_two_slots_run_two_jobs_at_once(local: MakeBackend, farandole_home: Path, tmp_path: Path) -> None:
    backend = local(f"until [ -e {tmp_path}/go ]; do sleep 0.1; done", slots=2)
    ids = [backend.submit(shell_job()).id for _ in range(4)]
    wait_until(lambda: [state_of(backend, job_id) for job_id in ids].count("running") == 2)
    assert [state_of(backend, job_id) for job_id in ids] == ["running", "running", "queued", "queued"]
    assert backend.status(ids[3]).reason == (f"waits: 1 job ahead of it; 2 of 2 slots taken, by {ids[0]}, {ids[1]}")
    wait_until(lambda: len(runners_of(farandole_home)) == 2)
    (tmp_path / "go").touch()
    for job_id in ids:
        wait_for_state(backend, job_id, "succeeded")


def test_killed_runner_ends_its_job_and_the_queue_continues(
    local: MakeBackend, farandole_home: Path, tmp_path: Path
) -> None:
    backend = local(f"setsid sleep 600 & if [ -e {tmp_path}/go ]; then exit 0; fi; touch {tmp_path}/began; sleep 600")
    first, second = (backend.submit(shell_job()).id for _ in range(2))
    wait_until((tmp_path / "began").exists)
    (tmp_path / "go").touch()
    runner = only_runner(farandole_home)
    runner.kill()
    wait_for_end(runner.pid)
    status = backend.status(first)
    assert status.state == "failed"
    assert status.reason.startswith(f"its runner, process {runner.pid}, was killed; `farandole retry {first}`")
    assert not find_orphans(str(farandole_home / "jobs" / first))
    wait_for_state(backend, second, "succeeded")
    assert backend.retry(first).id == first
    wait_for_state(backend, first, "succeeded")
    assert backend.status(first).details["starts"] == 2


def test_terminated_runner_ends_its_job_and_starts_no_other(
    local: MakeBackend, farandole_home: Path, tmp_path: Path
) -> None:
    backend = local(f"trap 'touch {tmp_path}/saved; exit 143' TERM; sleep 600 & touch {tmp_path}/began; wait")
    first, second = (backend.submit(shell_job()).id for _ in range(2))
    wait_until((tmp_path / "began").exists)
    runner = only_runner(farandole_home)
    runner.send_signal(signal.SIGTERM)
    wait_until(lambda: not processes_of(farandole_home))
    assert (tmp_path / "saved").exists()
    entry = backend._queue.find(second)
    assert entry is not None
    assert entry.state == "queued"
    assert backend.status(first).reason.startswith("its runner received SIGTERM")
    wait_for_state(backend, second, "running")  # started by the status command above
