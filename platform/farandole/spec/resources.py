"""The `resources` part of a job file."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from farandole.spec.base import Spec
from farandole.spec.hosts import Hosts

Seconds = Annotated[float, Field(gt=0)]


class Resources(Spec):
    """What the job runs on, and how long it is waited for."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Horovod processes."""
    min_workers: Annotated[int, Field(ge=1)] | None = None
    """With how many workers an attempt starts when not all hosts answer. Default: `workers`."""
    hosts: Hosts | None = None
    """Where workers may run: a list of `NAME:SLOTS`, `file: PATH` or `script: PATH`. Default: this machine."""
    wait_s: Annotated[float, Field(ge=0)] = 300.0
    """How long an attempt waits for hosts with room for `min_workers`."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Threads of each worker. Default: the cores of this machine, shared evenly."""
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each worker: 0 or 1."""
    regrow_s: Seconds | None = 60.0
    """A job that runs with fewer workers than it wants asks its hosts again so often, and goes on with more of them
    from a checkpoint that is made for it. `null`: never."""
    max_restarts: Annotated[int, Field(ge=0)] = 0
    """How often a broken training is started again from its last checkpoint."""
    heartbeat_timeout_s: Seconds = 15.0
    """A worker that gives no sign for so long is taken for frozen; before the first step six times as long."""
    meet_timeout_s: Seconds = 120.0
    """How long the workers of an attempt may take to start and meet."""
    stall_timeout_s: Seconds = 900.0
    """A training in which all workers live and no step or evaluated batch is made for so long is taken for stuck."""
    stop_timeout_s: Seconds = 30.0
    """How long workers that were asked to stop may take to write a checkpoint."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers: {self.min_workers} are more than `workers`, {self.workers}; use at most that"
            )
        return self

    @property
    def effective_min_workers(self) -> int:
        """With how many workers an attempt may start."""
        return self.workers if self.min_workers is None else self.min_workers

    def threads(self, cores: int, workers: int) -> int:
        """Threads of each worker on a machine with so many cores and workers."""
        return self.cpus or max(1, cores // workers)
