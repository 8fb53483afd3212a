"""State of one gang, built from its messages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from farandole.events import Event, StageEnded
from farandole.launch.hosts import Host
from farandole.process.messages import (
    Alive,
    Exited,
    Failed,
    Met,
    MlflowRunCreated,
    Result,
    Started,
    Stopped,
    WorkerMessage,
)
from farandole.process.oom import OomCounter

PEER_LOST = "PeerLost"
"""Kind of failure that a worker reports if it only fails because another worker ended."""


@dataclass
class Heartbeat:
    """Newest heartbeat of a worker.

    Args:
        at_s: When it arrived, by the monotonic clock of this process.
        pid: Process id of the worker.
        step: Number of completed steps; None: this process has not completed one yet.
        epoch: Number of completed epochs.
        moves: Steps completed and batches evaluated by this process.
    """

    at_s: float
    pid: int
    step: int | None = None
    epoch: int = 0
    moves: int = 0


@dataclass
class Attempt:
    """State of one launch of the gang.

    Args:
        number: Number of the attempt, from 1; names its logs.
        hosts: Hosts of its workers; all of their slots are taken.
        mlflow_run_id: The MLflow run, once it exists.
        is_connected: Whether all workers have connected to each other.
        is_trained: Whether the last step is complete; what follows is the work of rank zero.
        result: The result document of rank zero, once it exists.
        stopped_step: The step at which the workers saved their state because they were asked to stop.
        failures: Reports of workers about their own failure, in the order of their arrival.
        exits: Exits of workers, by rank.
        launcher_output: Output of Horovod's launcher, by line.
        heartbeats: The newest heartbeat of each worker.
        started_s: When it started, by the monotonic clock of this process.
        first_step_s: When the first step of this attempt was reported.
        first_step: Number of that step: the training resumed from the one before.
        failed_s: When the first failure was noticed.
    """

    number: int
    hosts: tuple[Host, ...] = ()
    mlflow_run_id: str | None = None
    is_connected: bool = False
    is_trained: bool = False
    result: Result | None = None
    stopped_step: int | None = None
    failures: list[Failed] = field(default_factory=list)
    exits: dict[int, Exited] = field(default_factory=dict)
    launcher_output: list[str] = field(default_factory=list)
    heartbeats: dict[int, Heartbeat] = field(default_factory=dict)
    oom: OomCounter = field(default_factory=OomCounter)
    started_s: float = field(default_factory=time.monotonic)
    first_step_s: float | None = None
    first_step: int | None = None
    failed_s: float | None = None

    @property
    def workers(self) -> int:
        """Number of workers."""
        return sum(host.slots for host in self.hosts)

    @property
    def step(self) -> int | None:
        """The last step that is known to be complete; None if this attempt has not completed one."""
        steps = [heartbeat.step for heartbeat in self.heartbeats.values() if heartbeat.step is not None]
        return max([*steps, *self.failed_steps], default=None)

    @property
    def failed_steps(self) -> list[int]:
        """Steps at which workers reported their failure: exact, whereas heartbeats are up to a second old."""
        return [report.step for report in self.failures if report.step is not None]

    @property
    def epoch(self) -> int | None:
        """Number of completed epochs, as far as known."""
        return max((beat.epoch for beat in self.heartbeats.values() if beat.step is not None), default=None)

    @property
    def is_complete(self) -> bool:
        """True if the training reached its end: there is a result, and rank zero, which sent it, succeeded."""
        return self.result is not None and 0 in self.exits and is_success(self.exits[0])

    @property
    def running_ranks(self) -> list[int]:
        """Workers that have started and not ended."""
        return [rank for rank in sorted(self.heartbeats) if rank not in self.exits]

    @property
    def has_lost_host(self) -> bool:
        """True if a host is lost: workers on other hosts may never notice."""
        return any(end.lost is not None for end in self.exits.values())

    def host_of(self, rank: int) -> str | None:
        """Return the host of a worker; ranks are assigned to hosts in order."""
        for host in self.hosts:
            if rank < host.slots:
                return host.name
            rank -= host.slots
        return None

    def apply(self, message: WorkerMessage | Event, now_s: float) -> None:
        """Update the state by a message.

        Args:
            message: The message.
            now_s: When it arrived, by the monotonic clock.
        """
        match message:
            case Started():
                self.heartbeats[message.rank] = Heartbeat(now_s, message.pid)
            case Alive():
                self._apply_alive(message, now_s)
            case Exited():
                self.exits[message.rank] = message
                if not is_success(message):
                    self.failed_s = self.failed_s or now_s
            case Met():
                self.is_connected = True
            case MlflowRunCreated():
                self.mlflow_run_id = message.id
            case Result():
                self.result = message
            case Stopped():
                self.stopped_step = message.step
            case Failed():
                self.failures.append(message)
                self.failed_s = self.failed_s or now_s
            case StageEnded(stage="train"):
                self.is_trained = True

    def _apply_alive(self, message: Alive, now_s: float) -> None:
        self.heartbeats[message.rank] = Heartbeat(now_s, message.pid, message.step, message.epoch, message.moves)
        if message.step is not None and self.first_step_s is None:
            self.first_step_s, self.first_step = now_s, message.step


def is_success(end: Exited) -> bool:
    """Return whether a worker exited as it should."""
    return end.code == 0
