"""Locks of a job's directory: one supervisor trains in it, and one runner runs its job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farandole.errors import SpecError
from farandole.jobdir.layout import FOREGROUND, RUNNER_LOCK
from farandole.process.locks import Lock, is_locked, try_lock


@contextmanager
def training_lock(directory: Path) -> Iterator[None]:
    """Exclude a second training in a job's directory; the lock ends with this process, however it ends.

    Raises:
        SpecError: Another process holds it.
    """
    lock = try_lock(directory)
    if lock is None:
        raise SpecError(f"--resume: {directory.name} is still running; wait for it, or end it first")
    with lock:
        yield


def is_training(directory: Path) -> bool:
    """Return whether a supervisor trains in this directory."""
    return is_locked(directory)


def is_foreground_job(directory: Path) -> bool:
    """Return whether a job was started in the foreground, and no runner has had it since."""
    return (directory / FOREGROUND).exists() and not (directory / RUNNER_LOCK).exists()


def try_lock_job(directory: Path) -> Lock | None:
    """Become the runner of a submitted job; None if another process is.

    Raises:
        FileNotFoundError: The job's directory was removed.
    """
    return try_lock(directory / RUNNER_LOCK)
