"""The `resources` part of a job file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farandole.spec.base import Spec


class Resources(Spec):
    """What the job runs on."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Horovod processes."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Threads of each worker. Default: the cores of this machine, shared evenly."""
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each worker: 0 or 1."""
    max_restarts: Annotated[int, Field(ge=0)] = 0
    """How often a broken training is started again from its last checkpoint."""

    def threads(self, cores: int, workers: int) -> int:
        """Threads of each worker on a machine with so many cores and workers."""
        return self.cpus or max(1, cores // workers)
