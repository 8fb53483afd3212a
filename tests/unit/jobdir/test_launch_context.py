from __future__ import annotations

import os
from pathlib import Path

import pytest

from farandole.jobdir.launch_context import (
    remove_abandoned_contexts,
    remove_launch_context,
    save_launch_context,
    take_launch_context,
)


def test_context_is_private_and_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    save_launch_context(tmp_path, {"PASSWORD": "x"})
    assert (tmp_path / "start.json").stat().st_mode & 0o777 == 0o600
    context = take_launch_context(tmp_path)
    assert (context.folder, context.variables) == (str(folder), {"PASSWORD": "x"})
    with pytest.raises(FileNotFoundError):
        take_launch_context(tmp_path)


def test_removed_working_directory_is_replaced_by_the_jobs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    save_launch_context(tmp_path, {})
    folder.rmdir()
    assert take_launch_context(tmp_path).folder == str(tmp_path)


def test_context_of_a_cancelled_job_is_removed(tmp_path: Path) -> None:
    save_launch_context(tmp_path, {})
    remove_launch_context(tmp_path)
    remove_launch_context(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_old_contexts_of_unknown_jobs_are_abandoned(tmp_path: Path) -> None:
    for name in ("known", "old", "new"):
        (tmp_path / name).mkdir()
        save_launch_context(tmp_path / name, {})
    for name in ("known", "old"):
        os.utime(tmp_path / name / "start.json", (0, 0))
    remove_abandoned_contexts(tmp_path, {"known"})
    assert sorted(path.parent.name for path in tmp_path.glob("*/start.json")) == ["known", "new"]
