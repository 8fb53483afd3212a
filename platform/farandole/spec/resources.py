"""The `resources` part of a job file: workers, the hosts they may run on, and timeouts."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from farandole.spec.base import PathText, Spec

Seconds = Annotated[float, Field(gt=0)]

_HOST = re.compile(r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<slots>[1-9][0-9]{0,4}))?")


def parse_host(text: str) -> tuple[str, int]:
    """Split `NAME:SLOTS` into name and slots; a host without slots has one.

    Raises:
        ValueError: The text has another form.
    """
    match = _HOST.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is not a host; write NAME:SLOTS, for example node1:4")
    return match["name"], int(match["slots"] or 1)


def _normalize_host(text: str) -> str:
    name, slots = parse_host(text)
    return f"{name}:{slots}"


class Hosts(Spec):
    """The list of hosts, in one of three forms. The list is read again before every attempt."""

    fixed: Annotated[tuple[Annotated[str, AfterValidator(_normalize_host)], ...], Field(min_length=1)] | None = None
    """`NAME:SLOTS` of each host; a slot holds one worker. `hosts: [a:2, b:2]` is short for this."""
    file: PathText | None = None
    """A file with one `NAME:SLOTS` (or `NAME slots=SLOTS`) on each line."""
    script: PathText | None = None
    """A program that prints one `NAME:SLOTS` on each line."""

    @model_validator(mode="before")
    @classmethod
    def _accept_list(cls, raw: Any) -> Any:
        return {"fixed": raw} if isinstance(raw, list | tuple) else raw

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("fixed", "file", "script") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(f"{found} given; write a list of NAME:SLOTS, or one of `file` and `script`")
        return self


class Resources(Spec):
    """The workers of the job, the machines they run on, and how long each phase may take."""

    workers: Annotated[int, Field(ge=1)] = 1
    """The number of Horovod processes."""
    min_workers: Annotated[int, Field(ge=1)] | None = None
    """The number of workers with which an attempt may start when not all hosts answer. Default: `workers`."""
    hosts: Hosts | None = None
    """Where workers may run: a list of `NAME:SLOTS`, `file: PATH` or `script: PATH`. Default: this machine."""
    wait_s: Annotated[float, Field(ge=0)] = 300.0
    """How long an attempt waits for hosts with room for `min_workers`, in seconds."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Threads of each worker. Default: an equal share of this machine's cores."""
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each worker: 0 or 1."""
    regrow_s: Seconds | None = 60.0
    """How often a job that runs with fewer than `workers` checks its hosts, in seconds. When more are available, it
    saves a checkpoint and continues with more workers. `null`: never."""
    max_restarts: Annotated[int, Field(ge=0)] = 3
    """How often a failed training is restarted from its last checkpoint."""
    heartbeat_timeout_s: Seconds = 15.0
    """A worker without a heartbeat for this long is considered frozen; before the first step, six times as long."""
    meet_timeout_s: Seconds = 120.0
    """How long the workers of an attempt may take to start and connect, in seconds."""
    stall_timeout_s: Seconds = 900.0
    """A training whose workers are alive but finish no step or evaluated batch for this long is considered stuck."""
    stop_timeout_s: Seconds = 30.0
    """How long workers that were asked to stop may take to write a checkpoint, in seconds."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers: {self.min_workers} is more than `workers`, {self.workers}; use at most {self.workers}"
            )
        return self

    @property
    def effective_min_workers(self) -> int:
        """The smallest number of workers with which an attempt may start."""
        return self.workers if self.min_workers is None else self.min_workers

    def threads(self, cores: int, workers: int) -> int:
        """Return the number of threads of each worker.

        Args:
            cores: Cores of the machine.
            workers: Workers on the machine.
        """
        return self.cpus or max(1, cores // workers)
