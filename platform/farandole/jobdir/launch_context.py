"""Launch contexts of waiting jobs: the working directory and the environment of whoever submitted them."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from farandole.jobdir.layout import LAUNCH_CONTEXT
from farandole.process.atomic import write_private_json

_ABANDONED_S = 3600.0
"""No submission takes longer between the saving of the context and the queueing of the job."""


@dataclass(frozen=True)
class LaunchContext:
    """The surroundings of a job's process.

    Args:
        folder: The working directory.
        variables: The environment of whoever submitted the job, including secrets.
    """

    folder: str
    variables: dict[str, str]


def save_launch_context(directory: Path, variables: dict[str, str]) -> None:
    """Save this process's working directory and an environment for a job that may wait for a long time."""
    write_private_json(directory / LAUNCH_CONTEXT, asdict(LaunchContext(os.getcwd(), variables)))


def take_launch_context(directory: Path) -> LaunchContext:
    """Read the saved context, and remove its file.

    Raises:
        OSError: There is none.
        ValueError: It is not valid JSON.
    """
    path = directory / LAUNCH_CONTEXT
    raw = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    folder = raw["folder"] if Path(raw["folder"]).is_dir() else str(directory)
    return LaunchContext(folder, raw["variables"])


def remove_launch_context(directory: Path) -> None:
    """Remove the saved context of a job that will not be started."""
    (directory / LAUNCH_CONTEXT).unlink(missing_ok=True)


def remove_abandoned_contexts(jobs: Path, known: set[str]) -> None:
    """Remove what a submitter saved that was killed before its job was queued.

    Args:
        jobs: The folder with the directories of all jobs.
        known: The ids of all jobs that were queued.
    """
    for path in jobs.glob(f"*/{LAUNCH_CONTEXT}"):
        with suppress(FileNotFoundError):  # its job has just started
            if path.parent.name not in known and time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
