"""Locks of a job's directory: one supervisor trains in it, and one runner runs its job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farandole.errors import SpecError
from farandole.jobdir.layout import FINALIZER_LOCK, FOREGROUND, FOREGROUND_LOCK, RUNNER_LOCK, jobs_folder
from farandole.process.locks import Lock, is_locked, lock_within, try_lock

GLANCE_S = 1.0
"""Seconds for which a free lock may seem taken: other commands try it for a moment, to see whether the job runs."""


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


def foreground_directories() -> list[Path]:
    """Return the directories of all jobs that were started in the foreground."""
    return [path.parent for path in jobs_folder().glob(f"*/{FOREGROUND}") if is_foreground_job(path.parent)]


def try_lock_ended(directory: Path) -> Lock | None:
    """Keep a job that has ended from being continued, submitted or not; None: it is being continued already.

    Raises:
        FileNotFoundError: The job's directory was removed.
    """
    if not is_foreground_job(directory):
        return try_lock_job(directory)
    lock = try_lock(directory / FINALIZER_LOCK)
    if lock is None:
        return None
    process = lock_within(directory / FOREGROUND_LOCK, GLANCE_S)
    if process is None:
        lock.release()
        return None
    process.release()
    return lock
