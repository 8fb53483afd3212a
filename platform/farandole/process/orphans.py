"""Finds and kills what a gang has left behind, whatever it did to get away from its parents."""

from __future__ import annotations

import os
import time

import psutil

from farandole.process.messages import GANG_VARIABLE

_RANK_VARIABLE = "HOROVOD_RANK"

_PATIENCE_S = 5.0
_POLL_S = 0.05


def find_orphans(mark: str, rank: int | None = None) -> list[psutil.Process]:
    """Processes of this user that carry a gang's mark in their environment; this one and its ancestors are left out.

    Args:
        mark: The mark.
        rank: Only what this worker is or has started. Default: what any has.

    The mark is inherited by everything that a worker starts: a process that made a session of its own, or whose parent
    has died, still has it. Other users' processes cannot be looked into, and are none of ours.
    """
    kept = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in kept:
            continue
        try:
            variables = process.environ()
            ours = variables.get(GANG_VARIABLE) == mark and rank in (None, int(variables.get(_RANK_VARIABLE, -1)))
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it has ended meanwhile, or belongs to somebody else
    return found


def kill_orphans(mark: str, rank: int | None = None) -> int:
    """Kill all that carries the mark, until nothing does: a process may start another one meanwhile.

    Returns:
        How many there were.
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
            break  # one that hangs in the kernel: it ends when the kernel lets it
        time.sleep(_POLL_S)
    return len(killed)
