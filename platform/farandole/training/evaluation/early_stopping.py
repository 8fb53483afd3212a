"""The best validation so far, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from typing import Any

import torch

from farandole.spec import EarlyStopping as EarlyStoppingSpec


class BestTracker:
    """Best value of a metric. Every rank sees the same values, so all ranks draw the same conclusions.

    Args:
        direction: `max` or `min`, whichever is better.
        min_change: Smallest improvement that counts.
    """

    def __init__(self, direction: str, min_change: float = 0.0) -> None:
        self._sign, self._min_change = (1.0 if direction == "max" else -1.0), min_change
        self.value: float | None = None
        self.num_waited = 0

    def add(self, value: float | None) -> bool:
        """Add a value; returns whether it is the best so far. A missing value or NaN is not an improvement."""
        if (
            value is not None
            and not math.isnan(value)
            and (self.value is None or self._sign * (value - self.value) > self._min_change)
        ):
            self.value, self.num_waited = value, 0
            return True
        self.num_waited += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"best": self.value, "waited": self.num_waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.value, self.num_waited = state["best"], int(state["waited"])


class EarlyStopping:
    """Ends a training that no longer improves, and keeps the best weights if configured to.

    Args:
        spec: When to stop.
        metric: Name of the validation metric.
        direction: `max` or `min`, whichever is better.
    """

    def __init__(self, spec: EarlyStoppingSpec, metric: str, direction: str) -> None:
        self._spec, self.metric = spec, metric
        self._best = BestTracker(direction, spec.min_change)
        self.best_weights: dict[str, torch.Tensor] | None = None
        self.best_metrics: dict[str, float] = {}

    def add_validation(self, metrics: dict[str, float], weights: dict[str, torch.Tensor]) -> None:
        """Record the validation of these weights."""
        if self._best.add(metrics.get(self.metric)) and self._spec.restore_best:
            self.best_weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
            self.best_metrics = dict(metrics)

    @property
    def should_stop(self) -> bool:
        """True once the metric has not improved for `patience` validations."""
        return self._best.num_waited >= self._spec.patience

    @property
    def best_value(self) -> float | None:
        """Best value of the metric."""
        return self._best.value

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers and tensors."""
        return {"weights": self.best_weights, "metrics": self.best_metrics, **self._best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.best_weights, self.best_metrics = state["weights"], dict(state["metrics"])
        self._best.load_state_dict(state)
