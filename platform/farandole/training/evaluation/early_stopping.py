"""The best validation so far, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from typing import Any

from farandole.spec import EarlyStopping as EarlyStoppingSpec
from farandole.training.checkpoint.staging import flatten, unflatten

_TIE_METRIC = "log_loss"
"""The metric that decides between epochs with the same value of the chosen one."""


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
        """Add a value; returns whether it is the best so far. NaN is not an improvement; None is not counted."""
        if value is None:
            return False
        if not math.isnan(value) and (self.value is None or self._sign * (value - self.value) > self._min_change):
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
    """Keeps the weights of the best epoch, and ends a training that no longer improves if configured to.

    Args:
        spec: When to stop; None: never.
        metric: Name of the validation metric.
        direction: `max` or `min`, whichever is better.
        keep_weights: Whether to keep a copy of the best weights, in host memory.
    """

    def __init__(self, spec: EarlyStoppingSpec | None, metric: str, direction: str, *, keep_weights: bool) -> None:
        self._spec, self.metric, self._keep_weights = spec, metric, keep_weights
        self._best = BestTracker(direction, spec.min_change if spec else 0.0)
        self.best_weights: dict[str, Any] | None = None
        self.history: list[dict[str, float]] = []
        """The metrics of each validated epoch."""
        self.best_epoch: int | None = None
        """The best epoch so far, from 1."""

    def add_validation(self, metrics: dict[str, float], weights: dict[str, Any]) -> None:
        """Record the validation of these weights, a state dict."""
        has_won_tie = self._has_won_tie(metrics)
        self.history.append(dict(metrics))
        if not self._best.add(metrics.get(self.metric)) and not has_won_tie:
            return
        self.best_epoch = len(self.history)
        if self._keep_weights:
            tree, tensors = flatten(weights)  # tied weights are copied once, and other states than tensors are kept
            self.best_weights = unflatten(tree, [tensor.to("cpu", copy=True) for tensor in tensors])

    def _has_won_tie(self, metrics: dict[str, float]) -> bool:
        """Return whether an epoch as good as the best one is more certain.

        A rank or a share of hits reaches its highest value while the network still learns: an AUC of 1 says nothing of
        the threshold.
        """
        best = self.best_metrics
        return metrics.get(self.metric, math.nan) == self._best.value and metrics.get(_TIE_METRIC, math.nan) < best.get(
            _TIE_METRIC, math.nan
        )

    @property
    def should_stop(self) -> bool:
        """True once the metric has not improved for `patience` validations."""
        return self._spec is not None and self._best.num_waited >= self._spec.patience

    @property
    def best_value(self) -> float | None:
        """Best value of the metric."""
        return self._best.value

    @property
    def best_metrics(self) -> dict[str, float]:
        """All metrics of the best epoch."""
        return {} if self.best_epoch is None else dict(self.history[self.best_epoch - 1])

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers and tensors."""
        return {
            "weights": self.best_weights,
            "metrics": self.best_metrics,
            "epoch": self.best_epoch,
            "history": self.history,
            **self._best.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state. One from before epochs were recorded has only the best metrics."""
        self.best_weights = state["weights"]
        known = [dict(state["metrics"])] if state["metrics"] else []
        self.history = [dict(metrics) for metrics in state.get("history", known)]
        self.best_epoch = state.get("epoch", len(known) or None)
        self._best.load_state_dict(state)
