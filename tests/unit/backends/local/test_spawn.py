from __future__ import annotations

import os
from pathlib import Path

import pytest

from farandole.backends.local.spawn import finalize_mlflow_run, inherited_environment, spawn_runner
from farandole.errors import UnavailableError
from farandole.process.orphans import GANG_VARIABLE


def test_environment_is_inherited_without_the_mark_of_the_submitters_own_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEOPLE_KEY", "secret")
    monkeypatch.setenv(GANG_VARIABLE, "/jobs/outer-1")
    variables = inherited_environment(Path("/the/home"))
    assert (variables["PEOPLE_KEY"], variables["FARANDOLE_HOME"]) == ("secret", "/the/home")
    assert GANG_VARIABLE not in variables


def test_runner_that_cannot_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    read, write = os.pipe()
    with pytest.raises(UnavailableError, match=r"runner\.log: .* did not start \(exit code 1\)"):
        spawn_runner(tmp_path, "local", write)
    os.close(read)
    os.close(write)


def test_job_that_recorded_nothing_is_not_finalized(tmp_path: Path) -> None:
    finalize_mlflow_run(tmp_path, {}, cancelled=False, job_is_locked=True)
    assert list(tmp_path.iterdir()) == []
