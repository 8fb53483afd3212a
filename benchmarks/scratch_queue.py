"""A queue to measure in: a home of its own, jobs that cost nothing, and all that runs for it."""

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

from farandole.backends.local.backend import LocalBackend
from farandole.backends.protocol import JobStatus
from farandole.errors import JobFailedError
from farandole.process.orphans import GANG_VARIABLE
from farandole.spec import Job, parse_job

_POLL_S = 0.2
_SETTLE_S = 600.0
_RUNNER = "farandole.backends.local.runner"
_CLOSING = "farandole.backends.local.mlflow_finalizer"

LEDGER_JOB = """
id=${FARANDOLE_GANG##*/}
echo "$id begins" >> "$0"
setsid sleep 600 &
sleep "$1"
echo "$id ends" >> "$0"
"""
"""A job that costs nothing: it says in a ledger that it begins and ends, and leaves a child in another session."""


def small_job() -> Job:
    """A job of which only the name matters."""
    data = {"sources": {"rows": {"path": "rows.csv"}}, "features": {"x": {"kind": "numeric"}}}
    return parse_job({"name": "small", "data": data, "resources": {"stop_timeout_s": 1}})


def ledger_command(ledger: Path, sleep_s: float) -> list[str]:
    """The command of a job that says in the ledger that it begins and ends."""
    return ["/bin/sh", "-c", LEDGER_JOB, str(ledger), str(sleep_s)]


def read_ledger(path: Path) -> tuple[Counter[str], Counter[str]]:
    """How often each job has begun, and ended."""
    begins: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        job_id, word = line.split()
        (begins if word == "begins" else ends)[job_id] += 1
    return begins, ends


def start_submitter(ledger: Path, count: int, slots: int, pause_s: float = 0.0) -> subprocess.Popen[str]:
    """A process that submits so many jobs, and prints the id of each when it has it."""
    command = [sys.executable, "-m", "benchmarks.queue_submitter", "--ledger", str(ledger)]
    command += ["--count", str(count), "--slots", str(slots), "--pause", str(pause_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def processes_of(home: Path) -> list[psutil.Process]:
    """All that runs for a home: runners, and what carries the mark of one of its jobs."""
    return [process for process in psutil.process_iter() if _belongs(process, home)]


def is_runner(process: psutil.Process) -> bool:
    """Whether a process serves a queue."""
    return _RUNNER in command_line(process)


def is_closing(process: psutil.Process) -> bool:
    """Whether a process says in MLflow that a job has ended; it leaves by itself."""
    return _CLOSING in command_line(process)


def command_line(process: psutil.Process) -> list[str]:
    """A process's command line; empty: it has ended."""
    try:
        line: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return line


def _belongs(process: psutil.Process, home: Path) -> bool:
    try:
        ours = process.environ().get(GANG_VARIABLE, "").startswith(str(home))
        ours = ours or (is_runner(process) and str(home) in process.cmdline())
        return ours and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False  # it has ended meanwhile, or belongs to somebody else


def settle(home: Path) -> list[JobStatus]:
    """Wait, asking now and then as a user does, until all jobs have ended and their runners are gone.

    Raises:
        JobFailed: That does not happen.
    """
    backend = LocalBackend()
    deadline_s = time.monotonic() + _SETTLE_S
    while True:
        jobs = backend.list()
        if all(job.ended for job in jobs) and not any(map(is_runner, processes_of(home))):
            return jobs
        if time.monotonic() > deadline_s:
            states = Counter(job.state for job in jobs)
            raise JobFailedError(f"bench: after {_SETTLE_S:.0f} s the queue is not at rest: {dict(states)}")
        time.sleep(_POLL_S)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A FARANDOLE_HOME that goes, with all that runs for it."""
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
    """`kill -9`; returns whether it still lived."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
