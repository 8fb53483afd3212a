"""Horovod's own launcher, as a process that ends with the one that started it."""

from __future__ import annotations

import os
import signal
import sys

from farandole.training.messages import PARENT_VARIABLE
from farandole.training.parent import end_with_parent


def main() -> None:
    """Be `horovodrun`, which ends its workers on SIGTERM, and get SIGTERM when the parent dies."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != int(os.environ.pop(PARENT_VARIABLE)):
        sys.exit("the parent ended before the launcher began")
    from horovod.runner.launch import run_commandline

    run_commandline()


if __name__ == "__main__":
    main()
