"""Who has a job in its hands: a lock that the kernel takes back from a process that dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from farandole.jobdir.status import RUNNER_LOCK


@dataclass
class Lock:
    """A lock that is held, until it is let go or this process ends.

    Args:
        descriptor: The open file. A child that inherits it holds the lock too.
    """

    descriptor: int

    def release(self) -> None:
        """Give the lock back."""
        os.close(self.descriptor)


def try_lock(path: Path) -> Lock | None:
    """Take a lock file, which is made if need be and stays; None: somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Lock(descriptor)


def wait_for_lock(path: Path) -> Lock:
    """Take a lock file, when whoever holds it lets it go."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return Lock(descriptor)


def try_lock_job(directory: Path) -> Lock | None:
    """Take a job in hand; None: somebody else has it.

    Raises:
        FileNotFoundError: Its directory is gone.
    """
    return try_lock(directory / RUNNER_LOCK)


def boot_id() -> str:
    """Names the time since the machine was started: process ids mean nothing beyond it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """When a process was started, in ticks since boot: by it and the id a process is known; None: there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
