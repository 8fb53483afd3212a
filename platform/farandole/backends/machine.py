"""Base class of the backends whose jobs are processes that this machine starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from farandole.backends.protocol import LocalizedJob
from farandole.spec import Job

GRACE_S = 30.0
"""Seconds that a whole job may take to end beyond its workers: Spark, MLflow."""
_POLL_S = 0.1


class MachineBackend:
    """The parts of a backend that are the same for all jobs of this machine."""

    @classmethod
    def location_of(cls, job: Job) -> dict[str, Any]:
        """Return an empty location: this machine."""
        return {}

    @property
    def location(self) -> dict[str, Any]:
        """An empty location: this machine."""
        return {}

    def localize(self, job: Job) -> LocalizedJob:
        """Return the job unchanged: its processes see what this one sees."""
        return LocalizedJob(job)

    def render(self, job: Job) -> list[dict[str, Any]]:
        """Return no objects: a job is a process."""
        return []


def wait_for_end(has_ended: Callable[[], bool], kill: Callable[[], None], within_s: float) -> None:
    """Wait until a job that was asked to end has ended.

    Args:
        has_ended: Returns whether it has.
        kill: Kills it; called when it was stopped or hangs, until it has ended.
        within_s: Seconds within which it ends by itself.
    """
    kill_at_s = time.monotonic() + within_s
    while not has_ended():
        if time.monotonic() > kill_at_s:
            kill()
        time.sleep(_POLL_S)
