"""Learning rate of each step."""

from __future__ import annotations

import math
from typing import Any

from farandole.spec import Schedule
from farandole.training.evaluation.early_stopping import BestTracker

_ONE_CYCLE_WARMUP = 0.3
_ONE_CYCLE_START = 1 / 25
"""Share of the learning rate at which one cycle begins, as in torch's `OneCycleLR`."""


def learning_rate_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """Return the share of the learning rate at a step.

    A pure function, so that a resumed training needs no state of it.

    Args:
        schedule: The schedule.
        step: Steps done so far, from 0.
        total_steps: Steps of the whole training.
    """
    if schedule.name == "one_cycle":
        return _one_cycle(schedule, step, total_steps)
    warmup_steps = round(schedule.warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule.name in ("constant", "plateau"):
        return 1.0
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    remaining = 1 - share if schedule.name == "linear" else _half_cosine(share)
    return schedule.final + (1 - schedule.final) * remaining


def _one_cycle(schedule: Schedule, step: int, total_steps: int) -> float:
    """Return half a cosine up, then half a cosine down (Smith and Topin 2018, "Super-Convergence", section 3)."""
    peak = round((schedule.warmup or _ONE_CYCLE_WARMUP) * total_steps)
    if step < peak:
        return _ONE_CYCLE_START + (1 - _ONE_CYCLE_START) * (1 - _half_cosine(step / peak))
    share = (step - peak) / max(1, total_steps - peak)
    return schedule.final + (1 - schedule.final) * _half_cosine(share)


def _half_cosine(share: float) -> float:
    """Return a cosine that falls from 1 to 0 as the share grows from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * share))


class ReduceOnPlateau:
    """Lowers the learning rate when a metric stops improving.

    Args:
        schedule: The schedule.
        metric: Name of the validation metric.
        direction: `max` or `min`, whichever is better.
    """

    def __init__(self, schedule: Schedule, metric: str, direction: str) -> None:
        self._schedule, self._metric = schedule, metric
        self._best = BestTracker(direction)
        self.factor = 1.0

    def add_validation(self, metrics: dict[str, float]) -> None:
        """Record a validation."""
        self._best.add(metrics.get(self._metric))
        if self._best.num_waited > self._schedule.patience:
            self.factor = max(self.factor * self._schedule.factor, self._schedule.final)
            self._best.num_waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"factor": self.factor, **self._best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.factor = float(state["factor"])
        self._best.load_state_dict(state)
