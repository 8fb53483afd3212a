"""Processes around a queue are killed at random; then nothing may be left, and every job has to be what it says."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from benchmarks.scratch_queue import (
    LEDGER_JOB,
    command_line,
    is_closing,
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
"""The processes of a real job, and by what their command lines are known."""


def kill_at_random(kills: int, slots: int, seed: int, home: Path, on_event: EventHandler) -> dict[str, Any]:
    """Submit without end, and kill a submitter, a runner, a job or a child of one, again and again.

    Args:
        kills: How often.
        slots: How many jobs run at once.
        seed: Of the moments and victims.
        home: FARANDOLE_HOME.
        on_event: Is told of each.
    """
    chance = random.Random(seed)
    ledger = home / "ledger"
    killed: Counter[str] = Counter()
    with _Submitters(ledger, slots) as submitters:
        while sum(killed.values()) < kills:
            time.sleep(chance.uniform(0, 0.5))
            submitters.renew()
            victims = _victims(home, list(submitters.busy))
            if not {"runner", "job"} <= set(victims):
                continue  # on a busy machine those that only begin would be killed for ever
            kind = chance.choice(sorted(victims))
            if not kill(chance.choice(victims[kind])):
                continue
            killed[kind] += 1
            on_event(Message(f"kill {sum(killed.values())}: a {kind}"))
            if chance.random() < 0.5:
                LocalBackend().list()  # somebody looks; else whoever submits next does
    jobs = settle(home)
    begins, ends = read_ledger(ledger)
    return {
        "kills": sum(killed.values()),
        "killed": dict(sorted(killed.items())),
        "jobs": len(jobs),
        "lost": len(submitters.told - {job.id for job in jobs}),
        "run_twice": sum(count > 1 for count in begins.values()),
        "wrong": [f"{job.id}: {job.state}: {job.reason}" for job in jobs if not _true(job, begins, ends)],
        "orphans": len(processes_of(home)),
        "states": dict(Counter(job.state for job in jobs)),
    }


def _true(job: JobStatus, begins: Counter[str], ends: Counter[str]) -> bool:
    """Whether a job is what it says. One that was killed between its last word and its end has failed all the same."""
    if job.state == "succeeded":
        return (begins[job.id], ends[job.id]) == (1, 1)
    return job.state == "failed" and begins[job.id] <= 1 and "killed" in job.reason


class _Submitters:
    """Processes that submit without end, started anew where one was killed, and the ids that they were told."""

    def __init__(self, ledger: Path, slots: int) -> None:
        self._ledger, self._slots = ledger, slots
        self._threads: list[threading.Thread] = []
        self._running: list[subprocess.Popen[str]] = []
        self.busy: set[int] = set()
        """The process ids of those that have submitted something."""
        self.told: set[str] = set()

    def __enter__(self) -> _Submitters:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join()

    def renew(self) -> None:
        """See to it that there are enough."""
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
                    self.told.add(line.strip())


def _victims(home: Path, submitters: list[int]) -> dict[str, list[psutil.Process]]:
    found = {"submitter": [psutil.Process(pid) for pid in submitters if psutil.pid_exists(pid)]}
    for process in processes_of(home):
        kind = "runner" if is_runner(process) else "job" if LEDGER_JOB in command_line(process) else "child"
        found.setdefault(kind, []).append(process)
    return {kind: processes for kind, processes in found.items() if processes}


# Real jobs --------------------------------------------------------------------------------------------------


def kill_trainings(job: Job, kills: int, seed: int, home: Path, on_event: EventHandler) -> dict[str, Any]:
    """Submit a job again and again, and kill one of its processes while it trains; where it fails, try it again.

    Args:
        job: The job; its dataset lies ready, and a restart of its own is allowed.
        kills: How often.
        seed: Of the moments and victims.
        home: FARANDOLE_HOME.
        on_event: Is told of each.

    Raises:
        JobFailed: The undisturbed training fails.
    """
    chance = random.Random(seed)
    backend = LocalBackend()
    expected = _digest(_ended(backend, backend.submit(job).id), must=True)
    killed: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    orphans, wrong = 0, []
    for number in range(kills):
        kind = list(_PARTS)[number % len(_PARTS)]
        job_id = backend.submit(job).id
        if not _kill_part(backend, job_id, kind, chance, home):
            raise JobFailedError("bench: the training ended before one of its processes was killed; let it last longer")
        killed[kind] += 1
        after = _ended(backend, job_id)
        orphans += len(_left(home, job_id))
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


def _kill_part(backend: LocalBackend, job_id: str, kind: str, chance: random.Random, home: Path) -> bool:
    """Kill one process of a job at a random moment of its training; returns whether it came to that."""
    while (status := backend.status(job_id)).step < 1:
        if status.ended:
            return False
        time.sleep(_POLL_S)
    time.sleep(chance.uniform(0, 2))
    part = [process for process in processes_of(home) if _PARTS[kind] in command_line(process)]
    return bool(part) and kill(chance.choice(part))


def _ended(backend: LocalBackend, job_id: str) -> JobStatus:
    while not (status := backend.status(job_id)).ended:
        time.sleep(_POLL_S)
    return status


def _left(home: Path, job_id: str) -> list[psutil.Process]:
    return [process for process in processes_of(home / "jobs" / job_id) if not is_closing(process)]


def _digest(status: JobStatus, *, must: bool = False) -> str | None:
    """The digest of the final weights; None: the job did not come so far."""
    result = read_result(Path(status.details["directory"]))
    if must and (status.state != "succeeded" or result is None):
        raise JobFailedError(f"bench: the undisturbed training {status.state}: {status.reason}")
    return None if result is None else str(result["training"]["weights_digest"])
