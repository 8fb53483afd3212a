"""Heartbeat of a worker: a small thread that reports once a second that the process is alive, and its progress.

The supervisor uses it to distinguish a frozen worker from a slow one, and a stalled gang from a working one. Uses the
standard library only, because it starts before torch is imported.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from farandole.process.messages import Alive, format_message

_INTERVAL_S = 1.0
_STDOUT = 1


@dataclass
class _Progress:
    """Progress of this process."""

    step: int = 0
    epoch: int = 0
    moves: int = 0


_progress = _Progress()
_has_stepped = threading.Event()


def start(rank: int) -> None:
    """Start to send heartbeats; they end with the process."""
    threading.Thread(target=_beat, args=(rank,), name="heartbeat", daemon=True).start()


def record_step(step: int, epoch: int) -> None:
    """Record a completed step. Costs three assignments: the thread does the reporting.

    Args:
        step: Steps since the very start of the training.
        epoch: Completed epochs.
    """
    _progress.step, _progress.epoch = step, epoch
    _progress.moves += 1
    if not _has_stepped.is_set():
        _has_stepped.set()


def record_batch() -> None:
    """Record an evaluated batch: not a step, but a sign that the worker is not stalled."""
    _progress.moves += 1


def current_position() -> tuple[int, int] | None:
    """Return step and epoch, or None before the first step of this process."""
    return (_progress.step, _progress.epoch) if _has_stepped.is_set() else None


def _beat(rank: int) -> None:
    while True:
        has_stepped = _has_stepped.is_set()  # before the heartbeat, which may just miss the first step
        _send(rank)
        # The first step is reported at once, because it ends the measured time of a recovery.
        if has_stepped:
            time.sleep(_INTERVAL_S)
        else:
            _has_stepped.wait(_INTERVAL_S)


def _send(rank: int) -> None:
    """Send one heartbeat by one write to the file descriptor: user code may have replaced sys.stdout."""
    step = _progress.step if _has_stepped.is_set() else None
    beat = Alive(rank, os.getpid(), step, _progress.epoch, _progress.moves)
    try:
        os.write(_STDOUT, format_message(beat).encode())
    except OSError:
        return  # the reader is gone, and whoever closed the pipe also ends this process
