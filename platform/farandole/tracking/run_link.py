"""What a job's directory knows of its MLflow run, without MLflow."""

from __future__ import annotations

import json
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farandole.errors import TrainingError
from farandole.jobdir.layout import MLFLOW_RUN_ID, RUN_LINK, TRACKING
from farandole.process.atomic import write_atomic, write_json

RANK_ZERO_SPOOL = "chief"
"""The spool of the rank that records the job."""


@dataclass(frozen=True)
class RunLink:
    """Which MLflow run belongs to a directory.

    Args:
        key: By it the store's run is found again if it was made and the answer was lost.
        started_ms: When the job began, in milliseconds since 1970.
        store: The store's URI, without user and password.
        parent: The directory whose run is the parent of this one's, if any.
    """

    key: str
    started_ms: int
    store: str
    parent: str | None = None


def open_run_link(directory: Path, store: str, parent: str | None = None) -> RunLink:
    """The record of a directory, made when a job first begins there; a later attempt finds it, and may name another
    store: servers move."""
    known = read_run_link(directory)
    record = (
        RunLink(uuid.uuid4().hex, int(time.time() * 1000), store, parent)
        if known is None
        else RunLink(known.key, known.started_ms, store, known.parent)
    )
    if record != known:
        _write(directory, record)
    return record


def write_run_link(directory: Path, record: RunLink) -> None:
    """Give a directory on another machine the record of the job's own."""
    if record != read_run_link(directory):
        _write(directory, record)


def read_run_link(directory: Path) -> RunLink | None:
    """The record of a directory; None where nothing was recorded."""
    try:
        raw: dict[str, Any] = json.loads((directory / TRACKING / RUN_LINK).read_text(encoding="utf-8"))
        return RunLink(**raw)
    except FileNotFoundError:
        return None


def require_run_link(directory: Path) -> RunLink:
    """The record of a directory on a node where nothing is recorded first.

    Raises:
        TrainingFailed: It was not brought here.
    """
    record = read_run_link(directory)
    if record is None:
        raise TrainingError(
            f"{directory}: node {socket.gethostname()} does not find the job's record there; start workers by"
            " `farandole train` or `farandole submit`, which bring it to every host"
        )
    return record


def read_run_id(directory: Path) -> str | None:
    """The id of the MLflow run; None while the store has not made it."""
    try:
        return (directory / MLFLOW_RUN_ID).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write_run_id(directory: Path, run_id: str) -> None:
    """Note the id of the MLflow run."""
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / MLFLOW_RUN_ID, run_id)


def spool_directory(directory: Path, name: str = RANK_ZERO_SPOOL) -> Path:
    """Where the operations of one process wait."""
    return directory / TRACKING / name


def pending_spools(directory: Path) -> list[Path]:
    """The spools in which something may wait, the chief's first: it makes the run."""
    found = {path.parent for path in (directory / TRACKING).glob("*/[0-9]*.jsonl")}
    return sorted(found, key=lambda path: (path.name != RANK_ZERO_SPOOL, path.name))


def _write(directory: Path, link: RunLink) -> None:
    (directory / TRACKING).mkdir(parents=True, exist_ok=True)
    write_json(directory / TRACKING / RUN_LINK, asdict(link))
