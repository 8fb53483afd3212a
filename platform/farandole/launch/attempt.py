"""What is heard from one gang, line by line."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from farandole.events import StageEnded
from farandole.launch.hosts import Host
from farandole.process.oom import OomCounter


@dataclass(frozen=True)
class WorkerExit:
    """How a worker's process ended.

    Args:
        rank: The worker.
        code: Its exit code; None: a signal ended it.
        signal: The signal's number; None: it ended by itself.
        time_s: When, by the clock of the launcher.
        host: The other host on which it ran; None: this machine.
        lost: Why nothing is known of its end: its host does not answer any more.
    """

    rank: int
    code: int | None
    signal: int | None
    time_s: float
    host: str | None = None
    lost: str | None = None

    @property
    def well(self) -> bool:
        """Whether it ended as a worker should."""
        return self.code == 0


@dataclass
class Heartbeat:
    """The newest sign of life of a worker.

    Args:
        at_s: When it was heard, by this process's monotonic clock.
        pid: Its process.
        step: Steps made, as it says; None: it has made none itself yet.
        epoch: Epochs done, as it says.
        moves: Steps made and batches evaluated by this process.
    """

    at_s: float
    pid: int
    step: int | None = None
    epoch: int = 0
    moves: int = 0


@dataclass
class Attempt:
    """What was heard from one gang.

    Args:
        number: From 1; names the logs.
        hosts: Where its workers run; all slots are taken.
        mlflow_run_id: The MLflow run, when the store has made it.
        met: Whether all workers have met.
        trained: Whether the last step is made: what follows is the chief's.
        result: The chief's result document, once it is there.
        stopped_step: The step at which the workers saved their state because they were asked to stop.
        failures: What workers said about their own ends, in the order in which it was heard.
        exits: How workers ended, by rank.
        words: What Horovod's launcher said.
        signs: The newest sign of each worker.
        started_s: When it began, by this process's monotonic clock.
        first_step_s: When the first step of this attempt was heard of.
        first_step: The number of that step: the training went on from the one before.
        failed_s: When the first failure was heard of.
    """

    number: int
    hosts: tuple[Host, ...] = ()
    mlflow_run_id: str | None = None
    met: bool = False
    trained: bool = False
    result: dict[str, Any] | None = None
    stopped_step: int | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    exits: dict[int, WorkerExit] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    signs: dict[int, Heartbeat] = field(default_factory=dict)
    oom: OomCounter = field(default_factory=OomCounter)
    started_s: float = field(default_factory=time.monotonic)
    first_step_s: float | None = None
    first_step: int | None = None
    failed_s: float | None = None

    @property
    def workers(self) -> int:
        """How many workers it has."""
        return sum(host.slots for host in self.hosts)

    @property
    def step(self) -> int | None:
        """The last step that is known to have been made; None: none was made in this attempt."""
        told = [sign.step for sign in self.signs.values() if sign.step is not None]
        return max([*told, *self.failed_steps], default=None)

    @property
    def failed_steps(self) -> list[int]:
        """The steps at which workers said that they ended: exact, where signs of life are a second old."""
        return [said["step"] for said in self.failures if said.get("step") is not None]

    @property
    def epoch(self) -> int | None:
        """Epochs done, as far as known."""
        return max((sign.epoch for sign in self.signs.values() if sign.step is not None), default=None)

    @property
    def complete(self) -> bool:
        """Whether the training reached its end: there is a result, and the chief that gave it ended well."""
        return self.result is not None and 0 in self.exits and self.exits[0].well

    @property
    def living(self) -> list[int]:
        """Workers that have begun and not ended."""
        return [rank for rank in sorted(self.signs) if rank not in self.exits]

    @property
    def lost(self) -> bool:
        """Whether a host is lost: the others' workers may never notice."""
        return any(end.lost is not None for end in self.exits.values())

    def host_of(self, rank: int) -> str | None:
        """The host of a worker: ranks go through the hosts in order."""
        for host in self.hosts:
            if rank < host.slots:
                return host.name
            rank -= host.slots
        return None

    def hear(self, data: dict[str, Any], now_s: float) -> bool:
        """Take in a message that is about the gang itself.

        Returns:
            Whether it was one; all others are for the watcher.
        """
        event = data["event"]
        if event == "started":
            self.signs[data["rank"]] = Heartbeat(now_s, data["pid"])
        elif event == "alive":
            self._hear_alive(data, now_s)
        elif event == "exited":
            how = (data.get("code"), data.get("signal"), data["time_s"], data.get("host"), data.get("lost"))
            self.exits[data["rank"]] = WorkerExit(data["rank"], *how)
            if not self.exits[data["rank"]].well:
                self.failed_s = self.failed_s or now_s
        elif event == "met":
            self.met = True
        elif event == "mlflow_run":
            self.mlflow_run_id = data["id"]
        elif event == "result":
            self.result = data
        elif event == "stopped":
            self.stopped_step = data["step"]
        elif event == "failed":
            self.failures.append(data)
            self.failed_s = self.failed_s or now_s
        else:
            self.trained = self.trained or (event == StageEnded.__name__ and data["stage"] == "train")
            return False
        return True

    def _hear_alive(self, data: dict[str, Any], now_s: float) -> None:
        rank = data["rank"]
        self.signs[rank] = Heartbeat(now_s, data["pid"], data["step"], data["epoch"], data["moves"])
        if data["step"] is not None and self.first_step_s is None:
            self.first_step_s, self.first_step = now_s, data["step"]
