"""Processes of a job that outlived their parents: found by a mark in their environment, and killed."""

from __future__ import annotations

import os
import time

import psutil

GANG_VARIABLE = "FARANDOLE_GANG"
"""The environment variable that marks all processes of a job and whatever they start: it holds the job's directory."""
_RANK_VARIABLE = "HOROVOD_RANK"

_PATIENCE_S = 5.0
_POLL_S = 0.05


def find_orphans(mark: str, rank: int | None = None) -> list[psutil.Process]:
    """Return the processes of this user that carry a mark, except this process and its ancestors.

    The mark is inherited: a process that created its own session, or whose parent has died, still carries it.

    Args:
        mark: The value of `FARANDOLE_GANG`.
        rank: Only this worker and what it has started. Default: all.
    """
    kept = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in kept:
            continue
        try:
            variables = process.environ()
            is_marked = variables.get(GANG_VARIABLE) == mark
            is_marked = is_marked and rank in (None, int(variables.get(_RANK_VARIABLE, -1)))
            if is_marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it has ended meanwhile, or belongs to another user
    return found


def kill_orphans(mark: str, rank: int | None = None) -> int:
    """Kill all processes that carry a mark, and those that they start meanwhile.

    Args:
        mark: The value of `FARANDOLE_GANG`.
        rank: Only this worker and what it has started. Default: all.

    Returns:
        The number of killed processes.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + _PATIENCE_S
    while found := find_orphans(mark, rank):
        for process in found:
            killed.add(process.pid)
            try:
                process.kill()  # SIGKILL also ends a stopped process
            except psutil.NoSuchProcess:
                continue
        if time.monotonic() > deadline:
            break  # a process that hangs in the kernel ends when the kernel lets it
        time.sleep(_POLL_S)
    return len(killed)
