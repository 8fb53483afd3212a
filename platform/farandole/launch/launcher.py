"""Horovod's launcher as a process of the supervisor: its command, its lines, its commands, its end; and the logs."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from farandole.jobdir.layout import launcher_log, worker_log
from farandole.launch.environment import public_variables
from farandole.launch.hosts import Host
from farandole.process.messages import WORKERS_VARIABLE
from farandole.process.orphans import GANG_VARIABLE, kill_orphans
from farandole.process.parent_death import PARENT_VARIABLE
from farandole.spec import Job, horovod_variables

HOROVOD_LAUNCHER = (sys.executable, "-m", "farandole.launch.horovodrun")
"""The program that starts all workers of a gang."""
KILL_TIMEOUT_S = 5.0
"""How long a gang that was killed may take to disappear, before the launcher is killed too."""
_MAX_QUEUED_LINES = 10_000


class Launcher:
    """Process of the launcher, which never outlives the `with` block, and neither do its workers.

    Args:
        command: The command.
        variables: Its complete environment.
        mark: The mark that all processes of the gang carry in their environment.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], mark: str) -> None:
        self._command, self._variables, self._mark = command, variables, mark
        self.exit_code = 0
        self.lines: queue.Queue[str | None] = queue.Queue(_MAX_QUEUED_LINES)
        """Lines of output; None: there will be no more."""

    def __enter__(self) -> Launcher:
        kill_orphans(self._mark)  # left by an earlier supervisor that was killed together with its launcher
        self._process = subprocess.Popen(
            self._command,
            env=self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C in a terminal only reaches the supervisor
        )
        threading.Thread(target=self._read, name="launcher", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all processes of the gang, however the block ends."""
        try:
            if self._process.poll() is None:
                self.send_command("kill")
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=KILL_TIMEOUT_S)
        finally:
            self._process.kill()
            self.exit_code = self._process.wait()
            kill_orphans(self._mark)
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):  # a command that the launcher did not live to read
                self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.lines.put(line)
        self.lines.put(None)

    def send_command(self, command: str) -> None:
        """Send a command; a launcher that has ended needs none."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()


class RankLogs:
    """Log files of an attempt: one for each rank, and one for the launcher.

    Args:
        directory: Directory of the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[int | None, IO[str]] = {}

    def __enter__(self) -> RankLogs:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, rank: int | None, text: str) -> None:
        """Append to the log of a worker; None: the log of the launcher."""
        if rank not in self._files:
            path = launcher_log(self._directory) if rank is None else worker_log(self._directory, rank)
            self._files[rank] = path.open("a", encoding="utf-8", buffering=1)
        self._files[rank].write(text)


def launcher_arguments(job: Job, hosts: Sequence[Host], remote_file: Path | None) -> list[str]:
    """Return the arguments of the launcher, without the command of the workers.

    Args:
        job: The job.
        hosts: Hosts of the gang; all of their slots are taken.
        remote_file: File that describes the hosts other than this machine; None: there are none.
    """
    resources = job.resources
    arguments = ["--workers", str(sum(host.slots for host in hosts)), "--hosts", ",".join(map(str, hosts))]
    arguments += ["--start-timeout", str(round(resources.meet_timeout_s))]
    arguments += ["--stop-timeout", str(resources.stop_timeout_s)]
    return arguments if remote_file is None else [*arguments, "--remote", str(remote_file)]


def launcher_variables(job: Job, directory: Path, workers: int) -> dict[str, str]:
    """Return the environment of the launcher.

    Args:
        job: The job.
        directory: The job's directory, which is also the mark of its processes.
        workers: Number of workers.
    """
    variables = public_variables()
    # Horovod's default of 30 s is too short for a busy machine, and it ends in SIGABRT; the supervisor's own time-out
    # comes first and reports which workers are missing.
    variables.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(round(job.resources.meet_timeout_s) + 30))
    variables |= horovod_variables(job.train.horovod, timeline=job.train.profile)
    variables[WORKERS_VARIABLE] = str(workers)
    variables[PARENT_VARIABLE] = str(os.getpid())
    variables[GANG_VARIABLE] = str(directory)
    return variables
