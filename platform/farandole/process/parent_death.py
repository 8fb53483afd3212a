"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass

PARENT_VARIABLE = "FARANDOLE_PARENT"
"""The environment variable that holds the process id of the parent, set by the parent itself."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Parent:
    """The process that started this one.

    Args:
        pid: Its process id.
    """

    pid: int

    @property
    def is_alive(self) -> bool:
        """True while it is still the parent of this process."""
        return os.getppid() == self.pid


def signal_on_parent_death(by: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when its parent ends; only Linux can.

    A parent that ended before the call sends nothing: compare with `named_parent`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by)


def named_parent() -> Parent:
    """Return the parent that `FARANDOLE_PARENT` names, and remove the variable: children have another one."""
    return Parent(int(os.environ.pop(PARENT_VARIABLE)))
