"""The directory of a job's checkpoints, and the newest one, without reading it: its directory's name and time."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farandole.jobdir.layout import CHECKPOINTS, SPEC
from farandole.storage import Location, is_uri, join_location, parse_location

if TYPE_CHECKING:  # `submit` waits until the runner of the local queue has imported this module
    from farandole.spec import Job

_NAME = re.compile(r"step-(?P<step>\d{9,})(?:-\d+)?")


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint on this machine.

    Args:
        step: The steps after which it was saved.
        saved_at: When it was saved, in ISO 8601, UTC.
    """

    step: int
    saved_at: str


def checkpoint_location(job: Job, directory: Path) -> Location:
    """Return where the job's checkpoints are. In a location that the user chose, each job has its own folder."""
    configured = job.train.checkpoint.directory
    if configured is None:
        return directory / CHECKPOINTS
    return parse_location(join_location(configured, directory.name))


def newest_checkpoint(directory: Path) -> SavedCheckpoint | None:
    """Return the newest checkpoint of a job; None if there is none, or they are in an object store.

    Args:
        directory: The job's directory.
    """
    folder = _folder(directory)
    if folder is None or not folder.is_dir():
        return None
    found = [(path.stat().st_mtime, int(match["step"])) for path in folder.iterdir() if (match := _match(path))]
    if not found:
        return None
    saved_s, step = max(found)
    moment = datetime.datetime.fromtimestamp(saved_s, datetime.UTC)
    return SavedCheckpoint(step, moment.isoformat(timespec="milliseconds"))


def _match(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name)


def _folder(directory: Path) -> Path | None:
    try:
        raw = json.loads((directory / SPEC).read_text(encoding="utf-8"))
        configured = raw["train"]["checkpoint"]["directory"]
    except (OSError, ValueError, KeyError, TypeError):
        configured = None
    if configured is None:
        return directory / CHECKPOINTS
    return None if is_uri(configured) else Path(configured) / directory.name
