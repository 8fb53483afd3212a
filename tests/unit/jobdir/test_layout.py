from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.jobdir.layout import attempt_logs, job_directory, launcher_log, newest_attempt, worker_log, worker_logs


def test_attempts_are_numbered_by_their_logs(tmp_path: Path) -> None:
    assert newest_attempt(tmp_path) == 0
    for number in (1, 2, 10):
        attempt_logs(tmp_path, number).mkdir(parents=True)
    (tmp_path / "logs" / "attempt-notes").mkdir()
    assert newest_attempt(tmp_path) == 10


def test_logs_of_workers_are_sorted_by_attempt_and_rank(tmp_path: Path) -> None:
    for number, rank in ((10, 0), (2, 10), (2, 9)):
        logs = attempt_logs(tmp_path, number)
        logs.mkdir(parents=True, exist_ok=True)
        worker_log(logs, rank).touch()
        launcher_log(logs).touch()
    assert [(number, rank) for number, rank, _ in worker_logs(tmp_path)] == [(2, 9), (2, 10), (10, 0)]


def test_directory_of_a_job_is_named_by_its_id(farandole_home: Path) -> None:
    assert job_directory("flights-1") == farandole_home / "jobs" / "flights-1"


def test_small_processes_do_not_load_the_spec() -> None:
    modules = "farandole.jobdir.layout, farandole.jobdir.locks, farandole.jobdir.outcome, farandole.jobdir.logs"
    code = f"import sys, {modules}; print([name for name in ('pydantic', 'farandole.spec') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("wrong", ["../jobs/tiny-1", "/tmp/tiny-1", "", ".."])
def test_path_is_not_an_id(wrong: str) -> None:
    with pytest.raises(SpecError, match="is not the id of a job; `farandole jobs` lists them"):
        job_directory(wrong)
