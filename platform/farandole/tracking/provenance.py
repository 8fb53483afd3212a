"""What a run is recorded with besides its results: spec, packages, commit, changes."""

from __future__ import annotations

import getpass
import json
import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from farandole.jobdir.layout import GIT_STATE
from farandole.process.atomic import write_json

_GIT_DIFF_BYTES = 1_000_000
_IN_NAMES = re.compile(r"[\w -]{1,60}", re.ASCII)


def user_tags() -> dict[str, str]:
    """The tags that MLflow's UI shows as user and source."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "farandole", "mlflow.source.type": "LOCAL"}


def list_packages() -> str:
    """The installed packages, a line each."""
    found = sorted({f"{entry.metadata['Name']}=={entry.version}" for entry in distributions()})
    return "\n".join(found) + "\n"


def read_git_state(folder: str | None) -> tuple[str | None, str | None]:
    """The git commit of a folder, and what differs from it."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "diff", "HEAD") if commit else None
    return commit.strip() if commit else None, changes[:_GIT_DIFF_BYTES] if changes else None


def save_git_state(directory: Path, folder: str | None) -> None:
    """Note commit and changes of a folder in a job's directory: the job will run on a copy that is in no repository."""
    write_git_state(directory, *read_git_state(folder))


def write_git_state(directory: Path, commit: str | None, changes: str | None) -> None:
    """The same, where they were found elsewhere."""
    write_json(directory / GIT_STATE, [commit, changes])


def load_git_state(directory: Path, folder: str | None) -> tuple[str | None, str | None]:
    """Commit and changes as they were noted; where they were not, those of the folder as it is."""
    try:
        commit, changes = json.loads((directory / GIT_STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return read_git_state(folder)
    return commit, changes


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names; one whose keys MLflow refuses in a name stays together."""
    if not isinstance(value, dict) or not value or not all(_IN_NAMES.fullmatch(str(key)) for key in value):
        return {prefix: json.dumps(value) if isinstance(value, dict) else value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= flatten(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _git(folder: str | None, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder or ".", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git, no commit: the run is tracked without one
    return done.stdout if done.returncode == 0 else None
