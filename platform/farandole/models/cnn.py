"""A convolutional network over one image: convolution and pooling, some times, then dense layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.choose import require_single_group
from farandole.models.mlp import hidden_layers
from farandole.models.pixels import planes
from farandole.shards import Group, Schema


class ImageEncoder(nn.Module):
    """An image as a row of numbers: for each stage a 3x3 convolution, batch norm, ReLU and 2x2 max pooling.

    Args:
        group: The images.
        channels: The channels of each stage.

    Raises:
        ModelError: The image is too small for so many stages.
    """

    def __init__(self, group: Group, channels: Sequence[int]) -> None:
        super().__init__()
        height, width, planes_in = group.shape
        least = 2 ** len(channels)
        if min(height, width) < least or not channels:
            raise ModelError(
                f"model.options.channels: {len(channels)} stages halve the image as often, and {group.name} has"
                f" {height} x {width} pixels; give at least one stage, and images of {least} pixels or more"
            )
        stages: list[nn.Module] = []
        for planes_out in channels:
            stages += [
                nn.Conv2d(planes_in, planes_out, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(planes_out),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            planes_in = planes_out
        self.stages = nn.Sequential(*stages, nn.Flatten())
        self.width = planes_in * (height // least) * (width // least)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 `[B, width]` of uint8 `[B, H, W, C]`."""
        encoded: torch.Tensor = self.stages(planes(images))
        return encoded


class Cnn(nn.Module):
    """An image encoder and dense layers."""

    def __init__(
        self, schema: Schema, group: Group, channels: Sequence[int], hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.name = group.name
        self.encoder = ImageEncoder(group, channels)
        width = hidden[-1] if hidden else self.encoder.width
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            hidden_layers(self.encoder.width, hidden, dropout=dropout, activation="relu", norm=False),
            nn.Linear(width, schema.target.num_outputs),
        )

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Logits or values `[B, O]` of uint8 `[B, H, W, C]`."""
        outputs: torch.Tensor = self.head(self.encoder(groups[self.name]))
        return outputs


def build(
    schema: Schema, *, channels: Sequence[int] = (32, 64, 128), hidden: Sequence[int] = (128,), dropout: float = 0.2
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset; one image and nothing else.
        channels: The channels of each stage of convolution and pooling; each halves height and width.
        hidden: The sizes of the dense layers.
        dropout: The share of activations that training drops, before and after the dense layers.

    Raises:
        ModelError: The dataset has something else, or its images are too small.
    """
    return Cnn(schema, require_single_group(schema, "image", "farandole.models.cnn"), channels, hidden, dropout)
