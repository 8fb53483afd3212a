from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from farandole.tracking.provenance import flatten, load_git_state, read_git_state, save_git_state


def test_a_mapping_with_names_that_mlflow_rejects_becomes_one_param() -> None:
    columns = {"Temp (C)": "double", "price$": "int"}
    flat = flatten({"data": {"sources": {"s": {"columns": columns}}, "memory": "2g"}})
    assert flat == {"data.sources.s.columns": json.dumps(columns), "data.memory": "2g"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with a commit and an uncommitted change."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "network.py").write_text("size = 1\n")
    git = ["git", "-C", str(folder), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    (folder / "network.py").write_text("size = 2\n")
    return folder


def test_a_saved_git_state_takes_precedence_over_the_folder(repository: Path, tmp_path: Path) -> None:
    directory = tmp_path / "job"
    directory.mkdir()
    commit, changes = read_git_state(str(repository))
    assert commit is not None
    assert changes is not None
    assert "+size = 2" in changes
    save_git_state(directory, str(repository))
    assert load_git_state(directory, None) == (commit, changes)


def test_without_a_saved_git_state_the_folder_is_read(repository: Path, tmp_path: Path) -> None:
    assert load_git_state(tmp_path, str(repository)) == read_git_state(str(repository))


def test_a_folder_outside_any_repository_has_no_git_state(tmp_path: Path) -> None:
    assert read_git_state(str(tmp_path)) == (None, None)
