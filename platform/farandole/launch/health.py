"""Health of a gang, judged from its workers' heartbeats. The current time is passed in, so the judgement is pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from farandole.launch.attempt import Attempt
from farandole.spec import Resources

_SUSPENDED_AFTER_S = 5.0
"""A check that comes this late means that this process was suspended itself, so the elapsed time says nothing."""
_FIRST_STEP_FACTOR = 6
"""Importing torch or MLflow on a busy machine can delay heartbeats for longer than anything that follows."""


@dataclass(frozen=True)
class HealthProblem:
    """A problem that no worker can report itself.

    Args:
        kind: `frozen`: a worker sends no heartbeats. `stalled`: all workers are alive and none makes progress.
            `unmet`: the workers did not connect to each other.
        rank: The frozen worker.
        after_s: How long the problem has lasted.
    """

    kind: Literal["frozen", "stalled", "unmet"]
    rank: int | None
    after_s: float


@dataclass
class HealthMonitor:
    """Judge of one attempt's heartbeats.

    Args:
        resources: The time limits.
        started_s: When the monitoring started, by the monotonic clock.
    """

    resources: Resources
    started_s: float
    _checked_s: float = field(default=0.0, init=False)
    _moves: dict[int, int] = field(default_factory=dict, init=False)
    _moved_s: float = field(default=0.0, init=False)
    _resumed_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._checked_s = self._moved_s = self._resumed_s = self.started_s

    def check(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        """Return the gang's problem, if it has one. Call it after all pending messages have been applied."""
        if now_s - self._checked_s > _SUSPENDED_AFTER_S:
            self._resumed_s = self._moved_s = now_s
        self._checked_s = now_s
        return (
            self._find_frozen(attempt, now_s) or self._find_unmet(attempt, now_s) or self._find_stalled(attempt, now_s)
        )

    def _find_frozen(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        limit_s = self.resources.heartbeat_timeout_s * (_FIRST_STEP_FACTOR if attempt.first_step is None else 1)
        silent_s = {rank: now_s - max(attempt.heartbeats[rank].at_s, self._resumed_s) for rank in attempt.running_ranks}
        frozen = [(seconds, rank) for rank, seconds in silent_s.items() if seconds > limit_s]
        if not frozen:
            return None
        after_s, rank = max(frozen)
        return HealthProblem("frozen", rank, after_s)

    def _find_unmet(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        waited_s = now_s - max(self.started_s, self._resumed_s)
        if attempt.is_connected or waited_s <= self.resources.meet_timeout_s:
            return None
        return HealthProblem("unmet", None, waited_s)

    def _find_stalled(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        """Only between the first step and the last one: afterwards rank zero logs the model, which may take long."""
        moves = {rank: heartbeat.moves for rank, heartbeat in attempt.heartbeats.items()}
        if moves != self._moves or not any(moves.values()) or attempt.is_trained or attempt.exits:
            self._moves, self._moved_s = moves, now_s
            return None
        if now_s - self._moved_s <= self.resources.stall_timeout_s:
            return None
        return HealthProblem("stalled", None, now_s - self._moved_s)
