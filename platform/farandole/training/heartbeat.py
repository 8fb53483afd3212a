"""A worker's pulse: a small thread that says once a second that the process lives, and how far it has come.

The supervisor tells by it a frozen worker from a slow one, and a gang that stands still from one that works. Needs
nothing but the standard library: it begins before torch is imported.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass

from farandole.process.messages import MESSAGE_PREFIX

_EVERY_S = 1.0
_STDOUT = 1


@dataclass
class _Place:
    """How far this process has come."""

    step: int = 0
    epoch: int = 0
    moves: int = 0


_place = _Place()
_moved = threading.Event()


def start(rank: int) -> None:
    """Start to give signs; they end with the process."""
    threading.Thread(target=_beat, args=(rank,), name="pulse", daemon=True).start()


def record_step(step: int, epoch: int) -> None:
    """A step was made. Costs three assignments: the thread does the talking.

    Args:
        step: Steps made since the training's very beginning.
        epoch: Epochs that are complete.
    """
    _place.step, _place.epoch = step, epoch
    _place.moves += 1
    if not _moved.is_set():
        _moved.set()


def record_batch() -> None:
    """A batch was evaluated: no step, and yet not standing still."""
    _place.moves += 1


def current_position() -> tuple[int, int] | None:
    """Step and epoch, once this process has made a step."""
    return (_place.step, _place.epoch) if _moved.is_set() else None


def _beat(rank: int) -> None:
    while True:
        _say(rank)
        # The first step is told at once: the time that a recovery took ends with it.
        if _moved.is_set():
            time.sleep(_EVERY_S)
        else:
            _moved.wait(_EVERY_S)


def _say(rank: int) -> None:
    """One write to the descriptor itself: a program may have put something else in the place of sys.stdout."""
    sign = {
        "event": "alive",
        "rank": rank,
        "pid": os.getpid(),
        "step": _place.step if _moved.is_set() else None,
        "epoch": _place.epoch,
        "moves": _place.moves,
    }
    line = MESSAGE_PREFIX + json.dumps(sign) + "\n"
    try:
        os.write(_STDOUT, line.encode())
    except OSError:
        return  # nobody listens any more; whoever ended listening also ends this process
