from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from farandole.backends.local import submit
from farandole.backends.local.submit import create_job, requested_slots
from farandole.errors import SpecError, UnavailableError
from farandole.jobdir.directory import load_job
from farandole.jobdir.launch_context import take_launch_context
from tests.support.queued import shell_job


def test_job_directory_has_the_spec_and_the_environment_of_the_submitter(farandole_home: Path) -> None:
    job = shell_job()
    directory = create_job(job, farandole_home)
    assert load_job(directory) == job
    assert take_launch_context(directory).variables["FARANDOLE_HOME"] == str(farandole_home)
    assert create_job(job, farandole_home, "tiny-7") == farandole_home / "jobs" / "tiny-7"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, r"No space left on device\); free some space, or set FARANDOLE_HOME"),
        (errno.EACCES, r"Permission denied\); make sure that you may write there, or set FARANDOLE_HOME"),
        (errno.EIO, r"Input/output error\); make sure that you may write there, or set FARANDOLE_HOME"),
    ],
)
def test_remedy_depends_on_the_error(
    farandole_home: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    def fail(directory: Path, job: object) -> None:
        raise OSError(code, os.strerror(code), str(directory / "job.json"))

    monkeypatch.setattr(submit, "save_spec", fail)
    with pytest.raises(UnavailableError, match=rf"job\.json: cannot be written \({message}"):
        create_job(shell_job(), farandole_home)


def test_number_of_slots_is_a_positive_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARANDOLE_SLOTS", raising=False)
    assert requested_slots() is None
    monkeypatch.setenv("FARANDOLE_SLOTS", "3")
    assert requested_slots() == 3
    for text in ("0", "-1", "1.5", "many"):
        monkeypatch.setenv("FARANDOLE_SLOTS", text)
        with pytest.raises(SpecError, match=f"FARANDOLE_SLOTS: {text}: the number of jobs that run at once; use"):
            requested_slots()
