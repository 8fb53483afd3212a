"""A recurrent network over one series: LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.choose import require_single_group
from farandole.models.mlp import hidden_layers
from farandole.shards import Group, Schema

CELLS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
"""Kinds of recurrent cells."""


class SeriesEncoder(nn.Module):
    """A series as a row of numbers: what the cells know after its last step.

    Each of the series' numbers is first scaled by its mean and deviation over rows and steps, which training tracks (a
    batch norm): arrays come as they are.

    Args:
        group: A tensor of shape `(steps, numbers)`.
        cell: One of `CELLS`.
        size: The size of the state.
        layers: How many layers of cells lie on one another.
        dropout: The share of activations that training drops between them.

    Raises:
        ModelError: The group is no series, or the cell does not exist.
    """

    def __init__(self, group: Group, cell: str, size: int, layers: int, dropout: float) -> None:
        super().__init__()
        if len(group.shape) != 2:
            raise ModelError(
                f"model.builder: {group.name} has rows of shape {list(group.shape)}, and a series needs [steps,"
                " numbers]; mend `shape` of the feature"
            )
        if cell not in CELLS:
            raise ModelError(f"model.options.cell: {cell!r} is unknown; use one of {', '.join(CELLS)}")
        self.scale = nn.BatchNorm1d(group.shape[1], affine=False)
        between = dropout if layers > 1 else 0.0
        self.cells = CELLS[cell](group.shape[1], size, layers, batch_first=True, dropout=between)
        self.width = size

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """float32 `[B, width]` of `[B, steps, numbers]`."""
        steps, _ = self.cells(self.scale(series.float().transpose(1, 2)).transpose(1, 2))
        last: torch.Tensor = steps[:, -1]
        return last


class Rnn(nn.Module):
    """A series encoder and dense layers."""

    def __init__(
        self, schema: Schema, group: Group, cell: str, size: int, layers: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.name = group.name
        self.encoder = SeriesEncoder(group, cell, size, layers, dropout)
        width = hidden[-1] if hidden else self.encoder.width
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            hidden_layers(self.encoder.width, hidden, dropout=dropout, activation="relu", norm=False),
            nn.Linear(width, schema.target.num_outputs),
        )

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Logits or values `[B, O]` of `[B, steps, numbers]`."""
        outputs: torch.Tensor = self.head(self.encoder(groups[self.name]))
        return outputs


def build(
    schema: Schema,
    *,
    cell: str = "lstm",
    size: int = 64,
    layers: int = 1,
    hidden: Sequence[int] = (64,),
    dropout: float = 0.0,
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset; one tensor of shape `[steps, numbers]` and nothing else.
        cell: `lstm` or `gru`.
        size: The size of the cells' state.
        layers: How many layers of cells lie on one another.
        hidden: The sizes of the dense layers after the last step.
        dropout: The share of activations that training drops.

    Raises:
        ModelError: The dataset has something else, or an option is wrong.
    """
    group = require_single_group(schema, "tensor", "farandole.models.rnn")
    return Rnn(schema, group, cell, size, layers, hidden, dropout)
