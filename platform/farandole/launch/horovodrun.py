"""Horovod's own launcher, as a process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for SIGTERM when the parent dies, then be `horovodrun`, which ends its workers on SIGTERM."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:
            sys.exit("the parent ended before the launcher began")
    from horovod.runner.launch import run_commandline

    run_commandline()


if __name__ == "__main__":
    main()
