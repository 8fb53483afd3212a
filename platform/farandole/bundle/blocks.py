"""Results that do not depend on what else is in a batch.

A matrix product sums in another order when it has few rows, or an odd number of them, so that the last bits of a row's
result depend on the size of its batch. Measured with torch 2.13 and MKL on one thread (docs/decisions/0039): products
with a multiple of 16 rows agree with each other to the bit, whatever their size and wherever the row stands in it.
Convolutions and recurrent layers agree from 2 and 3 rows on. Hence two rules: a linear layer computes a multiple of 16
rows, and a network at least 4. The rows that are added are copies of the last one, and are dropped from the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

LINEAR_ROWS = 16
"""Matrix products compute a multiple of this many rows."""
MIN_ROWS = 4
"""Fewest rows of a network whose linear layers follow their rule."""


def stabilize(network: nn.Module) -> None:
    """Make every linear layer of a network compute a multiple of `LINEAR_ROWS` rows."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.forward = partial(_apply_linear, module)  # type: ignore[method-assign]


def pad_tensors(features: Mapping[str, torch.Tensor], multiple: int = LINEAR_ROWS) -> dict[str, torch.Tensor]:
    """Return features with copies of their last row, so that the number of rows is a multiple."""
    rows = len(next(iter(features.values())))
    lacking = -rows % multiple
    if not lacking or not rows:
        return dict(features)
    return {name: torch.cat([values, values[-1:].repeat_interleave(lacking, 0)]) for name, values in features.items()}


def _apply_linear(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    rows = x.reshape(-1, x.shape[-1])
    lacking = -len(rows) % LINEAR_ROWS
    if not lacking:
        return F.linear(x, module.weight, module.bias)
    outputs = F.linear(F.pad(rows, (0, 0, 0, lacking)), module.weight, module.bias)
    return outputs[: len(rows)].reshape(*x.shape[:-1], outputs.shape[-1])
