"""Queue benchmark: concurrent submissions, kills of random processes, and logs that are followed."""

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
from benchmarks.queue.kills import kill_at_random, kill_trainings
from benchmarks.queue.scratch_queue import processes_of, read_ledger, settle, small_job, start_submitter, temporary_home
from farandole.backends.local.backend import LocalBackend
from farandole.events import EventHandler, StageEnded, StageStarted, ignore_event
from farandole.spec import Job

_CLOCK_JOB = 'i=0; while [ $i -lt "$0" ]; do date "+at %s.%N"; sleep 0.13; i=$((i + 1)); done'
"""Writes lines with the current time to its log."""


@dataclass(frozen=True)
class QueueBench:
    """Options of the queue benchmark; parts whose number is 0 are left out.

    Args:
        submissions: Number of jobs to submit at once.
        submitters: Number of processes that submit.
        slots: Number of jobs that run at once.
        kills: Number of processes to kill: submitters, runners, jobs and their children.
        lines: Number of lines of a log to follow.
        job: A real job, whose processes are killed too; its dataset must be prepared.
        job_kills: Number of processes of the real job to kill.
        seed: Seed of the random moments and victims.
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
    """Submit, kill and follow, and return the result document.

    Args:
        bench: The options.
        on_event: Receives an event for each step.

    Raises:
        JobFailedError: The queue does not become idle.
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
    for case, measure in cases.items():
        on_event(StageStarted("measure", case))
        with temporary_home() as home:
            figures = measure(home)
        on_event(StageEnded("measure", f"{case}: " + ", ".join(f"{name} {value}" for name, value in figures.items())))
        about = "jobs of the backend local: `farandole submit`, `logs -f` and their effects"
        results.append(
            {"system": "farandole", "version": version("farandole"), "about": about, "case": case, **figures}
        )
    return {"machine": describe_machine(), "results": results}


def _submit_many(bench: QueueBench, home: Path) -> dict[str, Any]:
    """Run all submitters at once; afterwards the ledger must contain each job once."""
    ledger = home / "ledger"
    counts = [bench.submissions // bench.submitters] * bench.submitters
    counts[0] += bench.submissions % bench.submitters
    started_s = time.monotonic()
    processes = [start_submitter(ledger, count, bench.slots) for count in counts]
    ids: list[str] = []
    for process in processes:
        with process:
            ids += [line.strip() for line in process.stdout or ()]
    submitted_s = time.monotonic() - started_s
    jobs = settle(home)
    begins, ends = read_ledger(ledger)
    succeeded = {job.id for job in jobs if job.state == "succeeded"}
    return {
        "jobs": len(ids),
        "lost": bench.submissions - len(set(ids) & set(ends)),
        "run_twice": sum(count > 1 for count in begins.values()),
        "wrong": sorted(set(ids) ^ succeeded),
        "orphans": len(processes_of(home)),
        "submitted_per_s": round(len(ids) / submitted_s, 1),
        "run_per_s": round(len(jobs) / (time.monotonic() - started_s), 1),
    }


def _follow(lines: int) -> dict[str, Any]:
    """Follow a log by `farandole logs -f`, and return the delay of its lines."""
    submitted = LocalBackend(command=["/bin/sh", "-c", _CLOCK_JOB, str(lines)]).submit(small_job())
    command = [sys.executable, "-m", "farandole", "logs", "--follow", submitted.id]
    started_s = time.time()
    delays_s: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        for line in following.stdout or ():
            if not line.startswith("at "):
                continue
            if not delays_s:
                started_s = time.time()  # earlier lines were written before the process could read them
            written_s = float(line.split()[1])
            delays_s.append(time.time() - max(written_s, started_s))
    return {
        "lines": len(delays_s),
        "delay_ms_median": round(statistics.median(delays_s) * 1e3),
        "delay_ms_max": round(max(delays_s) * 1e3),
    }
