"""Policy of restarts: whether and when a failed training is started again."""

from __future__ import annotations

from dataclasses import dataclass, field

from farandole.errors import FarandoleError, JobFailedError, TrainingError
from farandole.launch.failure import Failure
from farandole.process.retry import Backoff

_BACKOFF = Backoff(first_s=1.0, longest_s=30.0, jitter=0.5)
_MAX_EQUAL_FAILURES = 3
_MAX_EQUAL_ERRORS = 2
"""The same for an error that a worker raised itself: most are mistakes in a network or its data, which stay."""
_UNEXPLAINED = ("killed", "lost", "frozen", "unmet", "launcher")
"""Kinds of failure that do not show by themselves that the next attempt would fail in the same way."""


@dataclass
class RestartPolicy:
    """Budget of restarts, and what the failures so far have in common.

    Args:
        budget: Number of restarts that are allowed.
    """

    budget: int
    used: int = 0
    _without_progress: int = field(default=0, init=False)
    _equal_failures: list[Failure] = field(default_factory=list, init=False)

    def register(self, failure: Failure) -> FarandoleError | None:
        """Register a failure.

        Returns:
            The error with which the job ends; None: another attempt is allowed.
        """
        if not isinstance(failure.error, JobFailedError):
            return failure.error  # invalid input and a missing program stay what they are
        previous = self._equal_failures[-1] if self._equal_failures else None
        is_repeated = previous is not None and _is_equal(previous, failure)
        self._equal_failures = [*self._equal_failures, failure] if is_repeated else [failure]
        self._without_progress = 0 if _made_progress(failure, previous) else self._without_progress + 1
        most = _MAX_EQUAL_ERRORS if failure.kind == "raised" else _MAX_EQUAL_FAILURES
        if len(self._equal_failures) >= most and _is_conclusive(failure):
            return _repeated_failure(failure, len(self._equal_failures))
        if self.used >= self.budget:
            return failure.error
        self.used += 1
        return None

    def pause_s(self) -> float:
        """Return the seconds to wait before the next attempt.

        The pause doubles with every failure, from 1 s to 30 s, unless the training made progress in between. Up to half
        of it is random, so that jobs that fail together do not restart together.
        """
        return _BACKOFF.pause_s(max(1, self._without_progress))


def _is_equal(one: Failure, other: Failure) -> bool:
    """Return whether two failures have the same kind and step, and the same worker or the same message."""
    is_same_source = one.rank == other.rank or str(one.error) == str(other.error)
    is_same_step = one.step == other.step and one.is_step_exact == other.is_step_exact
    return one.kind == other.kind and is_same_step and is_same_source


def _is_conclusive(failure: Failure) -> bool:
    """Return whether a repetition means something: a worker that is killed before its first step has no step."""
    return failure.step is not None or failure.kind not in _UNEXPLAINED


def _made_progress(failure: Failure, previous: Failure | None) -> bool:
    """Return whether the training made steps beyond the one that failed before.

    The step at which a worker is killed is known to a second only: a worker that is killed twice before the next
    checkpoint may well have made progress.
    """
    if failure.step is None:
        return False
    return not failure.is_step_exact or previous is None or previous.step is None or failure.step > previous.step


def _repeated_failure(failure: Failure, count: int) -> TrainingError:
    where = "before its first step" if failure.step is None else f"after step {failure.step}"
    text = f"{failure.error}; it failed {count} times in the same way {where}, so no further attempt is made"
    return TrainingError(text, detail=failure.error.detail)
