"""Networks of the training benchmark, as builders of a job file."""

from __future__ import annotations

import torch
from torch import nn

from farandole.shards import Schema


class _SingleGroupNetwork(nn.Module):
    """Layers on one feature group; bytes are scaled to float32 from zero to one."""

    def __init__(self, group: str, layers: nn.Sequential) -> None:
        super().__init__()
        self._group, self.layers = group, layers

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Return the outputs, `[rows, outputs]`."""
        values = groups[self._group]
        if values.dtype == torch.uint8:
            values = values.permute(0, 3, 1, 2).float() / 255
        outputs: torch.Tensor = self.layers(values)
        return outputs


def mlp10m(schema: Schema) -> nn.Module:
    """Build a network of 10 million parameters in four layers."""
    inputs = schema.group("dense").size
    layers = nn.Sequential(
        nn.Linear(inputs, 2048),
        nn.ReLU(),
        nn.Linear(2048, 2048),
        nn.ReLU(),
        nn.Linear(2048, 2048),
        nn.ReLU(),
        nn.Linear(2048, schema.target.num_outputs),
    )
    return _SingleGroupNetwork("dense", layers)


def cnn(schema: Schema) -> nn.Module:
    """Build a network of three convolutions with pooling and one dense layer."""
    height, width, channels = schema.group("image").shape
    layers: list[nn.Module] = []
    for outputs in (32, 64, 64):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels, height, width = outputs, height // 2, width // 2
    dense = nn.Linear(channels * height * width, schema.target.num_outputs)
    return _SingleGroupNetwork("image", nn.Sequential(*layers, nn.Flatten(), dense))
