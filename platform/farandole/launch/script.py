"""Starts a script of the user's on several workers, by Horovod's own launcher: `python -m farandole.launch SCRIPT`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from farandole.errors import SpecError
from farandole.jobdir.layout import ENVIRONMENT
from farandole.launch.environment import private_variables_file, public_variables
from farandole.process.messages import WORKERS_VARIABLE
from farandole.process.orphans import GANG_VARIABLE
from farandole.process.parent_death import PARENT_VARIABLE


def run_script(script: Path, arguments: Sequence[str] = (), *, workers: int = 1, output: IO[str] | None = None) -> int:
    """Run a script in so many processes that meet in `farandole.training.world.init()`; returns the exit code.

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
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    with tempfile.TemporaryDirectory(prefix="farandole-script-") as place:
        variables = public_variables() | {WORKERS_VARIABLE: str(workers), PARENT_VARIABLE: str(os.getpid())}
        variables[GANG_VARIABLE] = place
        launcher = [sys.executable, "-m", "farandole.launch.horovodrun", "--workers", str(workers)]
        launcher += ["--hosts", f"localhost:{workers}", "--start-timeout", "60", "--stop-timeout", "5"]
        with private_variables_file(Path(place, ENVIRONMENT), threads) as environment:
            worker = [sys.executable, "-m", "farandole.training.script", str(environment), str(script), *arguments]
            # The launcher ends when its input does: nobody is left who could give it orders.
            with subprocess.Popen(
                [*launcher, *worker], env=variables, stdin=subprocess.PIPE, stdout=output, stderr=output
            ) as process:
                return process.wait()
