"""How runners and jobs come into being: detached from who asked for them, with the variables of who submitted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farandole.errors import UnavailableError
from farandole.process.orphans import GANG_VARIABLE

START = "start.json"
"""What a job that waits is to be started with. Only its user may read it, and it goes when the job starts."""
RUNNER_LOG = "runner.log"
"""What runners say when they fail themselves."""
_ABANDONED_S = 3600.0
"""So long no submission takes between the two."""


@dataclass(frozen=True)
class LaunchContext:
    """The surroundings of a job's process.

    Args:
        folder: The working directory.
        variables: The environment of whoever submitted it, secrets among them.
    """

    folder: str
    variables: dict[str, str]


def save_launch_context(directory: Path, home: Path) -> None:
    """Keep the surroundings of this process for a job that may wait for a long time."""
    path = directory / START
    path.unlink(missing_ok=True)
    start = {"folder": os.getcwd(), "variables": inherited_environment(home)}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(start, file)


def take_launch_context(directory: Path) -> LaunchContext:
    """The surroundings that were kept; they lie nowhere any more."""
    path = directory / START
    raw = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    folder = raw["folder"] if Path(raw["folder"]).is_dir() else str(directory)
    return LaunchContext(folder, raw["variables"])


def remove_abandoned_contexts(jobs: Path, taken: set[str]) -> None:
    """Remove what a submitter kept that was killed before its job was taken.

    Args:
        jobs: The directory of all jobs' directories.
        taken: The ids of all jobs that were taken.
    """
    for path in jobs.glob(f"*/{START}"):
        with suppress(FileNotFoundError):  # its job has just started
            if path.parent.name not in taken and time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()


def spawn_runner(home: Path, lane: str, waking: int) -> None:
    """Start a runner that outlives this process, its terminal and its session.

    Args:
        home: Whose queue it serves.
        lane: Which lane of it.
        waking: The descriptor of the lock that it holds until it looks into the queue.

    Raises:
        EnvironmentLacking: It cannot be started.
    """
    command = [sys.executable, "-P", "-m", "farandole.backends.local.runner"]  # no module of the user's folder
    command += ["--home", str(home), "--lane", lane, "--waking", str(waking)]
    with (home / RUNNER_LOG).open("ab") as log:
        done = subprocess.run(  # it forks and leaves at once: nobody has to wait for its child
            command,
            env=inherited_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[waking],
            start_new_session=True,
            check=False,
        )
    if done.returncode != 0:
        raise UnavailableError(
            f"{home / RUNNER_LOG}: the process that runs jobs did not start (exit code {done.returncode}); its last"
            " lines there say why"
        )


def inherited_environment(home: Path) -> dict[str, str]:
    """This process's variables, for what outlives it. Where it belongs to a job itself, what it submits does not."""
    own = {name: value for name, value in os.environ.items() if name != GANG_VARIABLE}
    return {**own, "FARANDOLE_HOME": str(home)}
