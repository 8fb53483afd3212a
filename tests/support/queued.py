"""Jobs in the queue whose work is a line of shell, and what is left of them. Fixtures; a conftest names them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.queue.scratch_queue import is_runner, processes_of
from farandole.backends.local.backend import LocalBackend
from farandole.spec import Job, parse_job

WAIT_S = 120
"""Longest wait for something that takes a second, on a machine that does other things too."""

TRAINING_S = 400
"""The same for what a training takes."""

MakeBackend = Callable[..., LocalBackend]


def shell_job(name: str = "tiny", **changes: object) -> Job:
    """A job of which only the name and `backend.priority` matter."""
    data = {"sources": {"things": {"path": "things.csv"}}, "features": {"x": {"kind": "numeric"}}}
    return parse_job({"name": name, "data": data, "resources": {"stop_timeout_s": 1}, **changes})


def wait_until(happened: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """Wait for something that will happen."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state_of(backend: LocalBackend, job_id: str) -> str:
    return backend.status(job_id).state


def wait_for_state(backend: LocalBackend, job_id: str, *states: str) -> None:
    wait_until(lambda: state_of(backend, job_id) in states)


def runners_of(home: Path) -> list[psutil.Process]:
    """The runners alone."""
    return [process for process in processes_of(home) if is_runner(process)]


def only_runner(home: Path) -> psutil.Process:
    """The one runner of a home. The process that it was forked by may live a moment longer."""
    wait_until(lambda: len(runners_of(home)) == 1)
    return runners_of(home)[0]


@pytest.fixture
def local(farandole_home: Path) -> Iterator[MakeBackend]:
    """Makes backends `local` whose jobs run a line of shell. Afterwards all of them have ended, and nothing is left."""

    def make(line: str = "true", slots: int | None = None) -> LocalBackend:
        return LocalBackend(command=["/bin/sh", "-c", line], slots=slots)

    yield make
    _end_all(farandole_home)


@pytest.fixture
def ended(home: Path) -> Iterator[None]:
    """The same for real jobs: whatever a test has submitted ends with it."""
    yield
    _end_all(home)


def _end_all(home: Path) -> None:
    backend = LocalBackend()
    for job in backend.list():
        backend.cancel(job.id)
    wait_until(lambda: not processes_of(home))
