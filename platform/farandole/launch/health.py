"""Watches a gang's signs of life: who is frozen, and whether all of them are stuck. Pure: the time is given to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from farandole.launch.attempt import Attempt
from farandole.spec import Resources

_ASLEEP_S = 5.0
"""Who looks so late has been stopped or asleep itself, and cannot judge others by the time that passed."""
_BEFORE_FIRST_STEP = 6
"""Importing torch or MLflow on a busy machine can keep a process from giving signs for longer than anything later."""


@dataclass(frozen=True)
class HealthProblem:
    """Something that no worker can tell by itself.

    Args:
        kind: `frozen`: a worker gives no sign. `stalled`: all live and nothing moves. `unmet`: they never met.
        rank: The frozen worker.
        after_s: For how long.
    """

    kind: str
    rank: int | None
    after_s: float


@dataclass
class HealthMonitor:
    """Judges one attempt's signs.

    Args:
        resources: The time limits.
        begun_s: When the on_event began.
    """

    resources: Resources
    begun_s: float
    _looked_s: float = field(default=0.0, init=False)
    _moves: dict[int, int] = field(default_factory=dict, init=False)
    _moved_s: float = field(default=0.0, init=False)
    _excused_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._looked_s = self._moved_s = self._excused_s = self.begun_s

    def look(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        """What is wrong with the gang, if anything. To be asked after all that was said has been heard."""
        if now_s - self._looked_s > _ASLEEP_S:
            self._excused_s = self._moved_s = now_s
        self._looked_s = now_s
        return self._frozen(attempt, now_s) or self._unmet(attempt, now_s) or self._stalled(attempt, now_s)

    def _frozen(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        limit_s = self.resources.heartbeat_timeout_s * (_BEFORE_FIRST_STEP if attempt.first_step is None else 1)
        silent = [
            (now_s - max(attempt.signs[rank].at_s, self._excused_s), rank)
            for rank in attempt.living
            if now_s - max(attempt.signs[rank].at_s, self._excused_s) > limit_s
        ]
        if not silent:
            return None
        after_s, rank = max(silent)
        return HealthProblem("frozen", rank, after_s)

    def _unmet(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        waited_s = now_s - max(self.begun_s, self._excused_s)
        if attempt.met or waited_s <= self.resources.meet_timeout_s:
            return None
        return HealthProblem("unmet", None, waited_s)

    def _stalled(self, attempt: Attempt, now_s: float) -> HealthProblem | None:
        """Only between the first step and the last: at the end the chief logs the model, which takes its time."""
        moves = {rank: sign.moves for rank, sign in attempt.signs.items()}
        if moves != self._moves or not any(moves.values()) or attempt.trained or attempt.exits:
            self._moves, self._moved_s = moves, now_s
            return None
        if now_s - self._moved_s <= self.resources.stall_timeout_s:
            return None
        return HealthProblem("stalled", None, now_s - self._moved_s)
