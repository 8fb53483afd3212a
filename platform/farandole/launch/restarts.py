"""Whether and when a broken training is started again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from farandole.errors import FarandoleError, JobFailedError, TrainingError
from farandole.launch.failure import Failure

_FIRST_S, _LONGEST_S = 1.0, 30.0
_SAME_AT_MOST = 3
_TOLD_BY_NOBODY = ("killed", "lost", "frozen", "unmet", "launcher")
"""Ends that do not show by themselves that the next attempt would end in the same way."""


@dataclass
class RestartPolicy:
    """The budget of restarts, and what the failures so far have in common.

    Args:
        budget: How many restarts there may be.
    """

    budget: int
    used: int = 0
    _without_progress: int = field(default=0, init=False)
    _alike: list[Failure] = field(default_factory=list, init=False)

    def refuse(self, cause: Failure) -> FarandoleError | None:
        """Take note of a failure; returns the error to end with, or None: another attempt may be made."""
        if not isinstance(cause.error, JobFailedError):
            return cause.error  # wrong input and a missing program stay what they are
        previous = self._alike[-1] if self._alike else None
        self._alike = [*self._alike, cause] if previous is not None and _same(previous, cause) else [cause]
        self._without_progress = 0 if _further(cause, previous) else self._without_progress + 1
        if len(self._alike) >= _SAME_AT_MOST and _tells(cause):
            return _diagnosis(cause, len(self._alike))
        if self.used >= self.budget:
            return cause.error
        self.used += 1
        return None

    def pause_s(self) -> float:
        """How long to wait before the next attempt: longer from failure to failure, from 1 s to 30 s, unless the
        training made steps between them; with up to half of it left to chance, so that jobs that fail together do
        not start together."""
        longest = min(_LONGEST_S, _FIRST_S * 2.0 ** max(0, self._without_progress - 1))
        return longest * random.uniform(0.5, 1.0)


def _same(one: Failure, other: Failure) -> bool:
    """The same kind, at the same step, of the same worker or with the same words."""
    alike = one.rank == other.rank or str(one.error) == str(other.error)
    return one.kind == other.kind and one.step == other.step and one.exact == other.exact and alike


def _tells(cause: Failure) -> bool:
    """Whether a repetition means something: a worker killed before its first step, say, is killed at no step."""
    return cause.step is not None or cause.kind not in _TOLD_BY_NOBODY


def _further(cause: Failure, previous: Failure | None) -> bool:
    """Whether the training made steps, and none of them may have been the one that failed before. Of a worker that is
    killed the step is known to a second only: who is killed twice before the next checkpoint has not stood still."""
    if cause.step is None:
        return False
    return not cause.exact or previous is None or previous.step is None or cause.step > previous.step


def _diagnosis(cause: Failure, times: int) -> TrainingError:
    where = "before its first step" if cause.step is None else f"after step {cause.step}"
    text = f"{cause.error}; it failed {times} times in the same way {where}, so no further attempt is made"
    return TrainingError(text, detail=cause.error.detail)
