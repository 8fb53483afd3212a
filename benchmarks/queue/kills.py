"""Kill campaigns: after random processes of a queue are killed, none may remain, and all states must be correct."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from benchmarks.queue.scratch_queue import (
    LEDGER_JOB,
    command_line,
    is_finalizer,
    is_runner,
    kill,
    processes_of,
    read_ledger,
    settle,
    start_submitter,
)
from farandole.backends.local.backend import LocalBackend
from farandole.backends.protocol import JobStatus
from farandole.errors import JobFailedError
from farandole.events import EventHandler, Message
from farandole.jobdir.outcome import read_result
from farandole.spec import Job

_SUBMITTERS = 2
_PAUSE_S = 0.3
_POLL_S = 0.1
_PARTS = {
    "runner": "farandole.backends.local.runner",
    "supervisor": "farandole.backends.local.job_process",
    "launcher": "farandole.launch.horovodrun",
    "worker": "farandole.training.worker",
}
"""Processes of a real job, and the part of the command line that identifies each."""


def kill_at_random(kills: int, slots: int, seed: int, home: Path, on_event: EventHandler) -> dict[str, Any]:
    """Submit jobs continuously, and repeatedly kill a submitter, a runner, a job or a child of one.

    Args:
        kills: Number of kills.
        slots: Number of jobs that run at once.
        seed: Seed of the moments and victims.
        home: FARANDOLE_HOME.
        on_event: Receives a message for each kill.
    """
    rng = random.Random(seed)
    ledger = home / "ledger"
    killed: Counter[str] = Counter()
    with _Submitters(ledger, slots) as submitters:
        while sum(killed.values()) < kills:
            time.sleep(rng.uniform(0, 0.5))
            submitters.restart()
            victims = _victims(home, list(submitters.busy))
            if not {"runner", "job"} <= set(victims):
                continue  # else processes that are still starting would be killed forever on a busy machine
            kind = rng.choice(sorted(victims))
            if not kill(rng.choice(victims[kind])):
                continue
            killed[kind] += 1
            on_event(Message(f"kill {sum(killed.values())}: a {kind}"))
            if rng.random() < 0.5:
                LocalBackend().list()  # a user lists the jobs; otherwise the next submitter cleans up
    jobs = settle(home)
    begins, ends = read_ledger(ledger)
    return {
        "kills": sum(killed.values()),
        "killed": dict(sorted(killed.items())),
        "jobs": len(jobs),
        "lost": len(submitters.ids - {job.id for job in jobs}),
        "run_twice": sum(count > 1 for count in begins.values()),
        "wrong": [f"{job.id}: {job.state}: {job.reason}" for job in jobs if not _is_correct(job, begins, ends)],
        "orphans": len(processes_of(home)),
        "states": dict(Counter(job.state for job in jobs)),
    }


def _is_correct(job: JobStatus, begins: Counter[str], ends: Counter[str]) -> bool:
    """Return whether a job's state fits the ledger; one that was killed after its last line has failed nevertheless."""
    if job.state == "succeeded":
        return (begins[job.id], ends[job.id]) == (1, 1)
    return job.state == "failed" and begins[job.id] <= 1 and "killed" in job.reason


class _Submitters:
    """Processes that submit continuously, replaced when they are killed, and the ids that they printed."""

    def __init__(self, ledger: Path, slots: int) -> None:
        self._ledger, self._slots = ledger, slots
        self._threads: list[threading.Thread] = []
        self._running: list[subprocess.Popen[str]] = []
        self.busy: set[int] = set()
        """Process ids of those that have submitted a job."""
        self.ids: set[str] = set()

    def __enter__(self) -> _Submitters:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join()

    def restart(self) -> None:
        """Start submitters until there are enough."""
        self._running = [process for process in self._running if process.poll() is None]
        self.busy &= {process.pid for process in self._running}
        while len(self._running) < _SUBMITTERS:
            process = start_submitter(self._ledger, 100_000, self._slots, _PAUSE_S)
            self._running.append(process)
            self._threads.append(threading.Thread(target=self._listen, args=(process,)))
            self._threads[-1].start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):
                    self.busy.add(process.pid)
                    self.ids.add(line.strip())


def _victims(home: Path, submitters: list[int]) -> dict[str, list[psutil.Process]]:
    found = {"submitter": [psutil.Process(pid) for pid in submitters if psutil.pid_exists(pid)]}
    for process in processes_of(home):
        kind = "runner" if is_runner(process) else "job" if LEDGER_JOB in command_line(process) else "child"
        found.setdefault(kind, []).append(process)
    return {kind: processes for kind, processes in found.items() if processes}


# Real jobs --------------------------------------------------------------------------------------------------


def kill_trainings(job: Job, kills: int, seed: int, home: Path, on_event: EventHandler) -> dict[str, Any]:
    """Submit a job repeatedly, and kill one of its processes while it trains; if the job fails, retry it.

    Args:
        job: The job; its dataset must be prepared, and at least one restart allowed.
        kills: Number of kills.
        seed: Seed of the moments and victims.
        home: FARANDOLE_HOME.
        on_event: Receives a message for each kill.

    Raises:
        JobFailedError: The undisturbed training fails.
    """
    rng = random.Random(seed)
    backend = LocalBackend()
    expected = _digest(_ended(backend, backend.submit(job).id), must=True)
    killed: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    orphans, wrong = 0, []
    for number in range(kills):
        kind = list(_PARTS)[number % len(_PARTS)]
        job_id = backend.submit(job).id
        if not _kill_part(backend, job_id, kind, rng, home):
            raise JobFailedError(
                "queue: the training ended before one of its processes was killed; make it last longer"
            )
        killed[kind] += 1
        after = _ended(backend, job_id)
        orphans += len(_remaining(home, job_id))
        if (after.state == "succeeded") is (kind in ("runner", "supervisor")):
            wrong.append(f"{job_id}: {after.state} after the {kind} was killed: {after.reason}")
        ends[f"{kind}: {after.state}"] += 1
        on_event(Message(f"kill {number + 1}: the {kind}; {after.state}: {after.reason}"))
        if after.state != "succeeded":
            backend.retry(job_id)
            after = _ended(backend, job_id)
        if _digest(after) != expected:
            wrong.append(f"{job_id}: {after.state} with other weights: {after.reason}")
    return {
        "kills": sum(killed.values()),
        "killed": dict(killed),
        "states": dict(ends),
        "wrong": wrong,
        "orphans": orphans,
    }


def _kill_part(backend: LocalBackend, job_id: str, kind: str, rng: random.Random, home: Path) -> bool:
    """Kill one process of a job at a random moment of its training, and return whether there was one."""
    while (status := backend.status(job_id)).step < 1:
        if status.ended:
            return False
        time.sleep(_POLL_S)
    time.sleep(rng.uniform(0, 2))
    part = [process for process in processes_of(home) if _PARTS[kind] in command_line(process)]
    return bool(part) and kill(rng.choice(part))


def _ended(backend: LocalBackend, job_id: str) -> JobStatus:
    while not (status := backend.status(job_id)).ended:
        time.sleep(_POLL_S)
    return status


def _remaining(home: Path, job_id: str) -> list[psutil.Process]:
    return [process for process in processes_of(home / "jobs" / job_id) if not is_finalizer(process)]


def _digest(status: JobStatus, *, must: bool = False) -> str | None:
    """Return the digest of the final weights; None if the job has no result."""
    result = read_result(Path(status.details["directory"]))
    if must and (status.state != "succeeded" or result is None):
        raise JobFailedError(f"queue: the undisturbed training {status.state}: {status.reason}")
    return None if result is None else str(result["training"]["weights_digest"])
