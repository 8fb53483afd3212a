"""Run of a user's own script on several workers by Horovod's launcher."""

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
    """Run a script in several processes that connect in `farandole.training.world.init()`, and return the exit code.

    Their output is written to the output of this process, each line with the number of its rank.

    Args:
        script: A Python file.
        arguments: Arguments of the script.
        workers: Number of processes.
        output: File for the output of the processes. Default: the output of this process.

    Raises:
        SpecError: The script does not exist.
    """
    if not script.is_file():
        raise SpecError(f"{script}: no such file; give the path of a Python script")
    num_threads = max(1, len(os.sched_getaffinity(0)) // workers)
    with tempfile.TemporaryDirectory(prefix="farandole-script-") as directory:
        variables = public_variables() | {WORKERS_VARIABLE: str(workers), PARENT_VARIABLE: str(os.getpid())}
        variables[GANG_VARIABLE] = directory
        launcher = [sys.executable, "-m", "farandole.launch.horovodrun", "--workers", str(workers)]
        launcher += ["--hosts", f"localhost:{workers}", "--start-timeout", "60", "--stop-timeout", "5"]
        with private_variables_file(Path(directory, ENVIRONMENT), num_threads) as environment:
            worker = [sys.executable, "-m", "farandole.training.script", str(environment), str(script), *arguments]
            # The pipe stays open while the script runs: the launcher ends when its input does.
            with subprocess.Popen(
                [*launcher, *worker], env=variables, stdin=subprocess.PIPE, stdout=output, stderr=output
            ) as process:
                return process.wait()
