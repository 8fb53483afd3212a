"""Kernel locks on files and directories (`flock`): they are released when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_POLL_S = 0.02


@dataclass
class Lock:
    """A held lock. A child process that inherits the descriptor holds it as well.

    Args:
        descriptor: The open file that carries the lock.
    """

    descriptor: int

    def release(self) -> None:
        """Give the lock back."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lock(path: Path, *, create: bool = True) -> Lock | None:
    """Lock a file or a directory exclusively; return None if somebody else holds it.

    Args:
        path: The file or directory. A lock file stays after its release.
        create: Whether to create a missing file.

    Raises:
        FileNotFoundError: The path does not exist and is not created, or its directory does not exist.
    """
    descriptor = _open(path, create=create)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Lock(descriptor)


def lock_within(path: Path, within_s: float) -> Lock | None:
    """Lock a file or a directory exclusively as soon as it is free; return None if it was held for too long.

    Args:
        path: The file or directory. A missing file is created; a lock file stays after its release.
        within_s: How long to wait.

    Raises:
        FileNotFoundError: Its directory does not exist.
    """
    deadline_s = time.monotonic() + within_s
    while (lock := try_lock(path)) is None and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return lock


def wait_for_lock(path: Path) -> Lock:
    """Lock a file exclusively, once its holder releases it. A missing file is created and stays."""
    descriptor = _open(path, create=True)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return Lock(descriptor)


def share_lock(path: Path) -> Lock:
    """Lock an existing file together with other readers; wait while somebody holds it exclusively.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    descriptor = _open(path, create=False)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return Lock(descriptor)


def is_locked(path: Path) -> bool:
    """Return whether somebody holds the exclusive lock on an existing file or directory."""
    lock = try_lock(path, create=False)
    if lock is None:
        return True
    lock.release()
    return False


class RepeatedLock:
    """A lock that a process takes many times a second: its file stays open, so that a turn costs two system calls.

    Excludes all other processes and threads of this machine. A forked child opens the file anew: an inherited
    descriptor would share the parent's lock.

    Args:
        path: The lock file, which is created and stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._pid = os.getpid()
        self._descriptor = _open(path, create=True)

    def __enter__(self) -> Self:
        self._threads.acquire()
        try:
            if self._pid != os.getpid():
                self._descriptor, self._pid = _open(self._path, create=True), os.getpid()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@contextmanager
def temporary_lock(path: Path) -> Iterator[None]:
    """Hold a lock file for the length of the block, and remove it afterwards.

    Excludes all other processes and threads of this machine; waits until the lock is free.

    Args:
        path: The lock file, which is created. Every user may open it: caches are shared.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                break
        except FileNotFoundError:
            pass  # the last holder has removed the file, so nobody else will ever ask for this inode
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def boot_id() -> str:
    """Return the kernel's id of the present boot: process ids mean nothing beyond it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None if it does not exist.

    Together with the process id, this identifies a process within one boot.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def _open(path: Path, *, create: bool) -> int:
    if path.is_dir() or not create:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
