from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from farandole.jobdir.launch_context import remove_abandoned_contexts, save_launch_context, take_launch_context
from farandole.jobdir.layout import LAUNCH_CONTEXT


def test_job_starts_in_the_submitters_folder_with_the_saved_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    save_launch_context(tmp_path, {"PEOPLE_KEY": "secret"})
    assert (tmp_path / LAUNCH_CONTEXT).stat().st_mode & 0o777 == 0o600
    context = take_launch_context(tmp_path)
    assert context.folder == str(folder)
    assert context.variables == {"PEOPLE_KEY": "secret"}
    assert not (tmp_path / LAUNCH_CONTEXT).exists()


def test_job_starts_in_its_directory_if_the_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    save_launch_context(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(folder)
    assert take_launch_context(tmp_path).folder == str(tmp_path)


def test_launch_context_of_a_killed_submitter_is_removed_after_an_hour(tmp_path: Path) -> None:
    for name in ("submitted", "abandoned", "new"):
        (tmp_path / name).mkdir()
        save_launch_context(tmp_path / name, {})
    for name in ("submitted", "abandoned"):
        os.utime(tmp_path / name / LAUNCH_CONTEXT, (0, 0))
    remove_abandoned_contexts(tmp_path, {"submitted"})
    assert sorted(path.parent.name for path in tmp_path.glob(f"*/{LAUNCH_CONTEXT}")) == ["new", "submitted"]
