"""A recurrent network over one series: LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.layers import Dropout, hidden_layers, require_single_group
from farandole.shards import Group, Schema

CELLS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
"""Recurrent cells by name."""


class SeriesEncoder(nn.Module):
    """A recurrent network that encodes a series as its output at the last step.

    Tensors are not scaled by preprocessing, so each number of the series is normalized first, by a batch norm that
    tracks mean and deviation over rows and steps.

    Args:
        group: A tensor of shape `(steps, numbers)`.
        cell: One of `CELLS`.
        size: Size of the state.
        layers: Number of stacked recurrent layers.
        dropout: Share of activations that training drops between them.

    Raises:
        ModelError: The group is not a series, or the cell does not exist.
    """

    def __init__(self, group: Group, cell: str, size: int, layers: int, dropout: float) -> None:
        super().__init__()
        if len(group.shape) != 2:
            raise ModelError(
                f"model.builder: the rows of {group.name} have shape {list(group.shape)}, but a series has shape"
                " [steps, numbers]; change `shape` of the feature"
            )
        if cell not in CELLS:
            raise ModelError(f"model.options.cell: {cell!r} is unknown; use one of {', '.join(CELLS)}")
        self.scale = nn.BatchNorm1d(group.shape[1], affine=False)
        between = dropout if layers > 1 else 0.0
        self.cells = CELLS[cell](group.shape[1], size, layers, batch_first=True, dropout=between)
        self.width = size

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Map a series `[B, steps, numbers]` to float32 `[B, width]`."""
        steps, _ = self.cells(self.scale(series.float().transpose(1, 2)).transpose(1, 2))
        last: torch.Tensor = steps[:, -1]
        return last


class Rnn(nn.Module):
    """A series encoder followed by dense layers."""

    def __init__(
        self, schema: Schema, group: Group, cell: str, size: int, layers: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.name = group.name
        self.encoder = SeriesEncoder(group, cell, size, layers, dropout)
        width = hidden[-1] if hidden else self.encoder.width
        self.head = nn.Sequential(
            Dropout(dropout),
            hidden_layers(self.encoder.width, hidden, dropout=dropout, activation="relu", norm=False),
            nn.Linear(width, schema.target.num_outputs),
        )

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map a series `[B, steps, numbers]` to logits or values `[B, O]`."""
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
        schema: The columns of the dataset: a single tensor of shape `[steps, numbers]`.
        cell: `lstm` or `gru`.
        size: Size of the recurrent state.
        layers: Number of stacked recurrent layers.
        hidden: Sizes of the dense layers after the last step.
        dropout: Share of activations that training drops.

    Raises:
        ModelError: The dataset is not a single series, or an option is wrong.
    """
    group = require_single_group(schema, "tensor", "farandole.models.rnn")
    return Rnn(schema, group, cell, size, layers, hidden, dropout)
