from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from farandole.backends.local.spawn import (
    START,
    remove_abandoned_contexts,
    save_launch_context,
    spawn_runner,
    take_launch_context,
)
from farandole.errors import UnavailableError
from farandole.process.messages import GANG_VARIABLE


def test_job_starts_in_the_submitters_folder_with_its_environment_but_without_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PEOPLE_KEY", "secret")
    monkeypatch.setenv(GANG_VARIABLE, "/jobs/outer-1")
    save_launch_context(tmp_path, Path("/the/home"))
    assert (tmp_path / START).stat().st_mode & 0o777 == 0o600
    context = take_launch_context(tmp_path)
    assert context.folder == str(folder)
    assert (context.variables["PEOPLE_KEY"], context.variables["FARANDOLE_HOME"]) == ("secret", "/the/home")
    assert GANG_VARIABLE not in context.variables
    assert not (tmp_path / START).exists()


def test_job_starts_in_its_directory_if_the_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    save_launch_context(tmp_path, tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(folder)
    assert take_launch_context(tmp_path).folder == str(tmp_path)


def test_launch_context_of_a_killed_submitter_is_removed_after_an_hour(tmp_path: Path) -> None:
    for name in ("submitted", "abandoned", "new"):
        (tmp_path / name).mkdir()
        save_launch_context(tmp_path / name, tmp_path)
    for name in ("submitted", "abandoned"):
        os.utime(tmp_path / name / START, (0, 0))
    remove_abandoned_contexts(tmp_path, {"submitted"})
    assert sorted(path.parent.name for path in tmp_path.glob(f"*/{START}")) == ["new", "submitted"]


def test_runner_that_cannot_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    read, write = os.pipe()
    with pytest.raises(UnavailableError, match=r"runner\.log: .* did not start \(exit code 1\)"):
        spawn_runner(tmp_path, "local", write)
    os.close(read)
    os.close(write)
