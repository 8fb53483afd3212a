"""Process of one rank that runs a user's script: `python -m farandole.training.script ENVIRONMENT SCRIPT ...`."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path

from farandole.process.parent_death import signal_on_parent_death


def main() -> None:
    """Set the launcher's variables, then run the script."""
    signal_on_parent_death(signal.SIGKILL)
    environment, script = sys.argv[1:3]
    for name, value in json.loads(Path(environment).read_text(encoding="utf-8")).items():
        os.environ.setdefault(name, value)
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(script).absolute().parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
