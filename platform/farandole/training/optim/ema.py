"""Exponential moving average of the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class ExponentialMovingAverage:
    """Average of a network's trainable parameters. Buffers stay the network's own.

    Args:
        model: The network.
        decay: Share of the average that is kept at each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._steps = decay, 0
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names, self._parameters = list(trainable), [parameter.data for parameter in trainable.values()]
        self._averages = [parameter.clone() for parameter in self._parameters]

    def reset(self) -> None:
        """Start the average at the network's current weights."""
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.copy_(parameter)

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step.

        The first steps keep less of the average: one over 1,000 steps would consist of the random initial weights.
        """
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        torch._foreach_lerp_(self._averages, self._parameters, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the average as the network's weights inside the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and the average."""
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages by parameter name, and their number of steps."""
        return {"steps": self._steps, "averages": dict(zip(self._names, self._averages, strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self._steps = int(state["steps"])
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(state["averages"][name])
