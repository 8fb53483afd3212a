"""`farandole bench queue`: many submit at once, anything is killed at any moment, and logs are followed."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.queue_kills import kill_at_random, kill_trainings
from benchmarks.scratch_queue import processes_of, read_ledger, settle, small_job, start_submitter, temporary_home
from farandole.backends.local.backend import LocalBackend
from farandole.events import EventHandler, StageEnded, StageStarted, ignore_event
from farandole.spec import Job

_CLOCK_JOB = 'i=0; while [ $i -lt "$0" ]; do date "+at %s.%N"; sleep 0.13; i=$((i + 1)); done'
"""Writes lines into its log with the time at which it does."""


@dataclass(frozen=True)
class QueueBench:
    """What to measure. What is 0 is left out.

    Args:
        submissions: How many jobs are submitted at once.
        submitters: By how many processes.
        slots: How many of them run at once.
        kills: How many processes are killed, of submitters, runners, jobs and their children.
        lines: How many lines of a log are followed.
        job: A real job, whose processes are killed too; its dataset lies ready.
        job_kills: How many of them.
        seed: Of the random moments and victims.
    """

    submissions: int = 200
    submitters: int = 8
    slots: int = 4
    kills: int = 50
    lines: int = 100
    job: Job | None = None
    job_kills: int = 4
    seed: int = 0


def bench_queue(bench: QueueBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Submit, kill and follow; returns the result document.

    Args:
        bench: What to measure.
        on_event: Is told of each step.

    Raises:
        JobFailed: The queue does not come to rest.
    """
    cases: dict[str, Callable[[Path], dict[str, Any]]] = {}
    if bench.submissions:
        cases["submit"] = lambda home: _submit_many(bench, home)
    if bench.kills:
        cases["kill -9"] = lambda home: kill_at_random(bench.kills, bench.slots, bench.seed, home, on_event)
    if bench.lines:
        cases["logs -f"] = lambda home: _follow(bench.lines)
    if bench.job is not None and bench.job_kills:
        job = bench.job
        cases["kill -9 of a training"] = lambda home: kill_trainings(job, bench.job_kills, bench.seed, home, on_event)
    results = []
    for case, measured in cases.items():
        on_event(StageStarted("measure", case))
        with temporary_home() as home:
            figures = measured(home)
        on_event(StageEnded("measure", f"{case}: " + ", ".join(f"{name} {value}" for name, value in figures.items())))
        about = "jobs of the backend local: `farandole submit`, `logs -f` and what follows from them"
        results.append(
            {"system": "farandole", "version": version("farandole"), "about": about, "case": case, **figures}
        )
    return {"machine": describe_machine(), "results": results}


def _submit_many(bench: QueueBench, home: Path) -> dict[str, Any]:
    """All submitters at once; afterwards the ledger has to have each job once."""
    ledger = home / "ledger"
    counts = [bench.submissions // bench.submitters] * bench.submitters
    counts[0] += bench.submissions % bench.submitters
    started_s = time.monotonic()
    submitting = [start_submitter(ledger, count, bench.slots) for count in counts]
    told: list[str] = []
    for process in submitting:
        with process:
            told += [line.strip() for line in process.stdout or ()]
    submitted_s = time.monotonic() - started_s
    jobs = settle(home)
    begins, ends = read_ledger(ledger)
    succeeded = {job.id for job in jobs if job.state == "succeeded"}
    return {
        "jobs": len(told),
        "lost": bench.submissions - len(set(told) & set(ends)),
        "run_twice": sum(count > 1 for count in begins.values()),
        "wrong": sorted(set(told) ^ succeeded),
        "orphans": len(processes_of(home)),
        "submitted_per_s": round(len(told) / submitted_s, 1),
        "run_per_s": round(len(jobs) / (time.monotonic() - started_s), 1),
    }


def _follow(lines: int) -> dict[str, Any]:
    """`farandole logs -f` as a process, and by how much its lines come later than they were written."""
    submitted = LocalBackend(command=["/bin/sh", "-c", _CLOCK_JOB, str(lines)]).submit(small_job())
    command = [sys.executable, "-m", "farandole", "logs", "--follow", submitted.id]
    began_s = time.time()
    delays_s: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        for line in following.stdout or ():
            if not line.startswith("at "):
                continue
            if not delays_s:
                began_s = time.time()  # what had been written before it could be read tells nothing
            written_s = float(line.split()[1])
            delays_s.append(time.time() - max(written_s, began_s))
    return {
        "lines": len(delays_s),
        "delay_ms_median": round(statistics.median(delays_s) * 1e3),
        "delay_ms_max": round(max(delays_s) * 1e3),
    }
