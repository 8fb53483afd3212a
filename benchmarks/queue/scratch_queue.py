"""Temporary queue: a separate home, jobs without work, and all of their processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.machine import repository_on_python_path
from farandole.backends.local.backend import LocalBackend
from farandole.backends.protocol import JobStatus
from farandole.errors import JobFailedError
from farandole.process.orphans import GANG_VARIABLE
from farandole.spec import Job, parse_job

_POLL_S = 0.2
_SETTLE_S = 600.0
RUNNER = "farandole.backends.local.runner"
_FINALIZER = "farandole.backends.local.mlflow_finalizer"

LEDGER_JOB = """
id=${FARANDOLE_GANG##*/}
echo "$id begins" >> "$0"
setsid sleep 600 &
sleep "$1"
echo "$id ends" >> "$0"
"""
"""Job without work: it writes its begin and its end to a ledger, and leaves a child in another session."""


def small_job() -> Job:
    """Return a job of which only the name matters."""
    data = {"sources": {"rows": {"path": "rows.csv"}}, "features": {"x": {"kind": "numeric"}}}
    return parse_job({"name": "small", "data": data, "resources": {"stop_timeout_s": 1}})


def ledger_command(ledger: Path, sleep_s: float) -> list[str]:
    """Return the command of a job that writes its begin and its end to the ledger."""
    return ["/bin/sh", "-c", LEDGER_JOB, str(ledger), str(sleep_s)]


def read_ledger(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how often each job has begun, and how often it has ended."""
    begins: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        job_id, word = line.split()
        (begins if word == "begins" else ends)[job_id] += 1
    return begins, ends


def start_submitter(ledger: Path, count: int, slots: int, pause_s: float = 0.0) -> subprocess.Popen[str]:
    """Start a process that submits `count` jobs and prints the id of each."""
    command = [sys.executable, "-m", "benchmarks.queue.submitter", "--ledger", str(ledger)]
    command += ["--count", str(count), "--slots", str(slots), "--pause", str(pause_s)]
    with repository_on_python_path():
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def processes_of(home: Path) -> list[psutil.Process]:
    """Return all processes of a home: runners, and those that carry the mark of one of its jobs."""
    return [process for process in psutil.process_iter() if _belongs(process, home)]


def is_runner(process: psutil.Process) -> bool:
    """Return whether a process is the runner of a queue."""
    return RUNNER in command_line(process)


def is_finalizer(process: psutil.Process) -> bool:
    """Return whether a process reports the end of a job to MLflow; it exits on its own."""
    return _FINALIZER in command_line(process)


def command_line(process: psutil.Process) -> list[str]:
    """Return the command line of a process; empty if the process has ended."""
    try:
        line: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return line


def _belongs(process: psutil.Process, home: Path) -> bool:
    try:
        is_marked = process.environ().get(GANG_VARIABLE, "").startswith(str(home))
        belongs = is_marked or (is_runner(process) and str(home) in process.cmdline())
        return belongs and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False  # the process has ended, or belongs to another user


def settle(home: Path) -> list[JobStatus]:
    """Poll, as a user does, until all jobs and their runners have ended, and return the jobs.

    Raises:
        JobFailedError: They do not end in time.
    """
    backend = LocalBackend()
    deadline_s = time.monotonic() + _SETTLE_S
    while True:
        jobs = backend.list()
        if all(job.ended for job in jobs) and not any(map(is_runner, processes_of(home))):
            return jobs
        if time.monotonic() > deadline_s:
            states = Counter(job.state for job in jobs)
            raise JobFailedError(f"queue: it is not idle after {_SETTLE_S:.0f} s: {dict(states)}")
        time.sleep(_POLL_S)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Use a temporary FARANDOLE_HOME, which is deleted with all of its processes when the block ends."""
    before = os.environ.get("FARANDOLE_HOME")
    with tempfile.TemporaryDirectory(prefix="farandole-queue-") as folder:
        os.environ["FARANDOLE_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            while found := processes_of(Path(folder)):
                for process in found:
                    kill(process)
                time.sleep(_POLL_S)
            if before is None:
                del os.environ["FARANDOLE_HOME"]
            else:
                os.environ["FARANDOLE_HOME"] = before


def kill(process: psutil.Process) -> bool:
    """Kill a process by SIGKILL, and return whether it was still alive."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
