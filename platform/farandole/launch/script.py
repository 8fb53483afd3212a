"""Starts a script of the user's on several workers, by Horovod's own launcher: `python -m farandole.launch SCRIPT`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from farandole.errors import SpecError
from farandole.launch.gang import _PASSED_OPENLY
from farandole.training.messages import PARENT_VARIABLE, WORKERS_VARIABLE


def run_script(script: Path, arguments: Sequence[str] = (), *, workers: int = 1, output: IO[str] | None = None) -> int:
    """Run a script in so many processes that meet in `farandole.training.world.join()`; returns the exit code.

    What they print goes to this process's output, each line with the number of its rank.

    Args:
        script: A Python file.
        arguments: Its arguments.
        workers: How many processes.
        output: Where all that they print goes, if not to this process's output.

    Raises:
        SpecError: There is no such file.
    """
    if not script.is_file():
        raise SpecError(f"{script}: there is no such file; give the path of a Python script")
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    variables = {name: value for name, value in os.environ.items() if _PASSED_OPENLY.match(name)}
    variables |= {WORKERS_VARIABLE: str(workers), PARENT_VARIABLE: str(os.getpid())}
    # Horovod's launcher writes variables on command lines: all but the harmless ones go by a file for this user only.
    hidden = {name: value for name, value in os.environ.items() if name not in variables}
    with tempfile.TemporaryDirectory(prefix="farandole-script-") as place:
        environment = Path(place, "environment.json")
        with os.fdopen(os.open(environment, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"OMP_NUM_THREADS": threads, **hidden}, file)
        launcher = [sys.executable, "-m", "farandole.launch.horovodrun", "--gloo", "-np", str(workers)]
        launcher += ["-H", f"localhost:{workers}", "--network-interface", "lo"]
        worker = [sys.executable, "-m", "farandole.training.script", str(environment), str(script), *arguments]
        return subprocess.run([*launcher, *worker], env=variables, check=False, stdout=output, stderr=output).returncode
