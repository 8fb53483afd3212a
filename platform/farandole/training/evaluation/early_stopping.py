"""The best validation so far, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from typing import Any

import torch

from farandole.spec import EarlyStopping as EarlyStoppingSpec


class BestTracker:
    """The best value so far. Every rank sees the same values, so all come to the same conclusions.

    Args:
        direction: `max` or `min`: what is better.
        min_change: How much better a value has to be to count.
    """

    def __init__(self, direction: str, min_change: float = 0.0) -> None:
        self._sign, self._min_change = (1.0 if direction == "max" else -1.0), min_change
        self.value: float | None = None
        self.waited = 0

    def add(self, value: float | None) -> bool:
        """Take note of a value; returns whether it is the best. One that is missing or no number is no better."""
        known = value is not None and not math.isnan(value)
        if known and (self.value is None or self._sign * (value - self.value) > self._min_change):  # type: ignore[operator]
            self.value, self.waited = value, 0
            return True
        self.waited += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"best": self.value, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.value, self.waited = state["best"], int(state["waited"])


class EarlyStopping:
    """Ends a training that gets no better, and keeps the best weights if so asked.

    Args:
        spec: When to stop.
        metric: Which validation metric.
        direction: `max` or `min`: what is better.
    """

    def __init__(self, spec: EarlyStoppingSpec, metric: str, direction: str) -> None:
        self._spec, self.metric = spec, metric
        self._best = BestTracker(direction, spec.min_change)
        self.weights: dict[str, torch.Tensor] | None = None
        self.metrics: dict[str, float] = {}

    def validated(self, metrics: dict[str, float], weights: dict[str, torch.Tensor]) -> None:
        """Take note of a validation of these weights."""
        if self._best.add(metrics.get(self.metric)) and self._spec.restore_best:
            self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
            self.metrics = dict(metrics)

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return self._best.waited >= self._spec.patience

    @property
    def best(self) -> float | None:
        """The best value."""
        return self._best.value

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and tensors."""
        return {"weights": self.weights, "metrics": self.metrics, **self._best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.weights, self.metrics = state["weights"], dict(state["metrics"])
        self._best.load_state_dict(state)
