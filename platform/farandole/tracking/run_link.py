"""The link between a job's directory and its MLflow run; reading it does not import MLflow."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from farandole.errors import TrainingError
from farandole.jobdir.layout import MLFLOW_RUN_ID, RUN_LINK, TRACKING
from farandole.process.atomic import write_atomic, write_json

COMMAND_VARIABLE = "FARANDOLE_COMMAND"
"""The environment variable with the command that the user has typed, for the description of the MLflow run."""
RANK_ZERO_SPOOL = "chief"
"""Name of rank zero's spool, which records the job; older directories of jobs have this name on disk."""


@dataclass(frozen=True)
class RunLink:
    """The identity of a directory's MLflow run.

    Args:
        key: A tag of the run, to find a run that was created although the answer was lost.
        started_ms: Start of the job, in milliseconds since 1970.
        store: URI of the store, without user name and password.
        parent: The directory whose run is the parent of this one, if any.
        command: The command that started the job, if it was one.
    """

    key: str
    started_ms: int
    store: str
    parent: str | None = None
    command: str | None = None


def open_run_link(directory: Path, store: str, parent: str | None = None) -> RunLink:
    """Return the link of a directory, creating it at the job's first start; the store may change between attempts."""
    known = read_run_link(directory)
    if known is None:
        command = os.environ.get(COMMAND_VARIABLE)
        link = RunLink(uuid.uuid4().hex, int(time.time() * 1000), store, parent, command)
    else:
        link = replace(known, store=store)
    if link != known:
        _write_link(directory, link)
    return link


def write_run_link(directory: Path, link: RunLink) -> None:
    """Copy a job's link into its directory on another machine."""
    if link != read_run_link(directory):
        _write_link(directory, link)


def read_run_link(directory: Path) -> RunLink | None:
    """Return the link of a directory; None if nothing was recorded."""
    try:
        raw: dict[str, Any] = json.loads((directory / TRACKING / RUN_LINK).read_text(encoding="utf-8"))
        return RunLink(**raw)
    except FileNotFoundError:
        return None


def require_run_link(directory: Path) -> RunLink:
    """Return the link of a directory on a node other than rank zero's.

    Raises:
        TrainingError: The launcher did not copy the link to this node.
    """
    link = read_run_link(directory)
    if link is None:
        raise TrainingError(
            f"{directory}: the link to the job's MLflow run is missing on node {socket.gethostname()}; start workers"
            " with `farandole train` or `farandole submit`, which copy it to every host"
        )
    return link


def read_run_id(directory: Path) -> str | None:
    """Return the id of the MLflow run; None until the store has created it."""
    try:
        return (directory / MLFLOW_RUN_ID).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write_run_id(directory: Path, run_id: str) -> None:
    """Store the id of the MLflow run."""
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / MLFLOW_RUN_ID, run_id)


def spool_directory(directory: Path, name: str = RANK_ZERO_SPOOL) -> Path:
    """Return the directory of one process's spool."""
    return directory / TRACKING / name


def pending_spools(directory: Path) -> list[Path]:
    """Return the spools that may hold operations, rank zero's first, since it creates the run."""
    found = {path.parent for path in (directory / TRACKING).glob("*/[0-9]*.jsonl")}
    return sorted(found, key=lambda path: (path.name != RANK_ZERO_SPOOL, path.name))


def _write_link(directory: Path, link: RunLink) -> None:
    (directory / TRACKING).mkdir(parents=True, exist_ok=True)
    write_json(directory / TRACKING / RUN_LINK, asdict(link))
