"""The provenance of a run: user, packages, git commit and uncommitted changes, and the flattened spec."""

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

_MAX_DIFF_CHARACTERS = 1_000_000
_GIT_TIMEOUT_S = 20
_MLFLOW_NAME = re.compile(r"[\w -]{1,60}", re.ASCII)


def user_tags() -> dict[str, str]:
    """Return the tags that MLflow's UI shows as user and source."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "farandole", "mlflow.source.type": "LOCAL"}


def list_packages() -> str:
    """Return the installed packages, one per line."""
    found = sorted({f"{entry.metadata['Name']}=={entry.version}" for entry in distributions()})
    return "\n".join(found) + "\n"


def read_git_state(folder: str | None) -> tuple[str | None, str | None]:
    """Return the git commit of a folder, and its uncommitted changes."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "diff", "HEAD") if commit else None
    return commit.strip() if commit else None, changes[:_MAX_DIFF_CHARACTERS] if changes else None


def save_git_state(directory: Path, folder: str | None) -> None:
    """Store the git state of a folder in a job's directory, for a job that runs on a copy outside the repository."""
    write_git_state(directory, *read_git_state(folder))


def write_git_state(directory: Path, commit: str | None, changes: str | None) -> None:
    """Store a git state that was read elsewhere."""
    write_json(directory / GIT_STATE, [commit, changes])


def load_git_state(directory: Path, folder: str | None) -> tuple[str | None, str | None]:
    """Return the git state that was stored in a job's directory, or else the present state of the folder."""
    try:
        commit, changes = json.loads((directory / GIT_STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return read_git_state(folder)
    return commit, changes


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into dotted names; a mapping with keys that MLflow rejects in names becomes JSON."""
    if not isinstance(value, dict) or not value or not all(_MLFLOW_NAME.fullmatch(str(key)) for key in value):
        return {prefix: json.dumps(value) if isinstance(value, dict) else value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= flatten(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _git(folder: str | None, *arguments: str) -> str | None:
    """Return the output of a git command; None if there is no git or no repository, which is not an error."""
    try:
        done = subprocess.run(
            ["git", "-C", folder or ".", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
