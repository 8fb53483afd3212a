"""No process of ours outlives the one that started it."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def signal_on_parent_death(by: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when its parent ends; other systems than Linux cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by)
