"""Fixtures of queued jobs that run a line of shell, and of the processes that remain of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.queue.scratch_queue import RUNNER, command_line, is_runner, processes_of
from farandole.backends.local.backend import LocalBackend
from farandole.spec import Job, parse_job

WAIT_S = 300
"""Longest wait for something that takes a second on an idle machine."""

TRAINING_S = 600
"""Longest wait for a training."""

MakeBackend = Callable[..., LocalBackend]


def shell_job(name: str = "tiny", **changes: object) -> Job:
    """Return a job of which only the name and `backend.priority` matter."""
    data = {"sources": {"things": {"path": "things.csv"}}, "features": {"x": {"kind": "numeric"}}}
    return parse_job({"name": name, "data": data, "resources": {"stop_timeout_s": 1}, **changes})


def wait_until(happened: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """Wait until something happens."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended; its entry may stay until whoever inherited it has read its status.

    A signal is only sent when its sender continues, so the end of a killed process must be awaited.
    """
    wait_until(lambda: _has_ended(pid))


def _has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def state_of(backend: LocalBackend, job_id: str) -> str:
    return backend.status(job_id).state


def wait_for_state(backend: LocalBackend, job_id: str, *states: str) -> None:
    wait_until(lambda: state_of(backend, job_id) in states)


def runners_of(home: Path) -> list[psutil.Process]:
    """Return the runners of a home."""
    return [process for process in processes_of(home) if is_runner(process)]


def others_of(home: Path) -> list[psutil.Process]:
    """Return the processes of a home other than runners; one without a command line is disappearing."""
    lines = [(process, command_line(process)) for process in processes_of(home)]
    return [process for process, line in lines if line and RUNNER not in line]


def only_runner(home: Path) -> psutil.Process:
    """Wait until a home has one runner and return it: the process that forked it may live a moment longer."""
    wait_until(lambda: len(runners_of(home)) == 1)
    return runners_of(home)[0]


@pytest.fixture
def local(farandole_home: Path) -> Iterator[MakeBackend]:
    """Return a factory of local backends whose jobs run a line of shell; end all of them afterwards."""

    def make(line: str = "true", slots: int | None = None) -> LocalBackend:
        return LocalBackend(command=["/bin/sh", "-c", line], slots=slots)

    yield make
    _end_all(farandole_home)


@pytest.fixture
def ended(home: Path) -> Iterator[None]:
    """End every real job that a test has submitted."""
    yield
    _end_all(home)


def _end_all(home: Path) -> None:
    backend = LocalBackend()
    for job in backend.list():
        backend.cancel(job.id)
    wait_until(lambda: not processes_of(home))
