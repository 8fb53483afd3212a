"""Base class of the backends whose jobs are processes that this machine starts."""

from __future__ import annotations

from typing import Any

from farandole.backends.protocol import LocalizedJob
from farandole.spec import Job


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
