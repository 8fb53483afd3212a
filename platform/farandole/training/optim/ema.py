"""An exponential moving average of the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class ExponentialMovingAverage:
    """The average of a network's parameters that learn. Buffers are the network's own.

    Args:
        model: The network.
        decay: What is kept of the average at each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._steps = decay, 0
        learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names, self._parameters = list(learning), [parameter.data for parameter in learning.values()]
        self._averages = [parameter.clone() for parameter in self._parameters]

    def begin(self) -> None:
        """The network's weights as they are now are the first average."""
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.copy_(parameter)

    @torch.no_grad()
    def update(self) -> None:
        """Take note of the weights after a step. In the first steps less is kept: an average of 1,000 steps would be
        made of the random first weights."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        torch._foreach_lerp_(self._averages, self._parameters, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the average for its weights while the block runs."""
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
        """The averages by name, and the steps they are made of."""
        return {"steps": self._steps, "averages": dict(zip(self._names, self._averages, strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._steps = int(state["steps"])
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(state["averages"][name])
