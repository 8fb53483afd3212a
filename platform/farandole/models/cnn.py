"""A convolutional network over one image: stages of convolution and pooling, then dense layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.layers import Dropout, hidden_layers, require_single_group, to_planes
from farandole.shards import Group, Schema


class ImageEncoder(nn.Module):
    """A stack of stages, each with a 3x3 convolution, batch norm, ReLU and 2x2 max pooling.

    Args:
        group: The images.
        channels: Number of channels of each stage.

    Raises:
        ModelError: The image is too small for this number of stages.
    """

    def __init__(self, group: Group, channels: Sequence[int]) -> None:
        super().__init__()
        height, width, planes_in = group.shape
        min_size = 2 ** len(channels)
        if min(height, width) < min_size or not channels:
            raise ModelError(
                f"model.options.channels: each of the {len(channels)} stages halves the image, but {group.name} has"
                f" {height} x {width} pixels; give at least one stage, and images of at least {min_size} pixels"
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
        self.width = planes_in * (height // min_size) * (width // min_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 images `[B, H, W, C]` to float32 `[B, width]`."""
        encoded: torch.Tensor = self.stages(to_planes(images))
        return encoded


class Cnn(nn.Module):
    """An image encoder followed by dense layers."""

    def __init__(
        self, schema: Schema, group: Group, channels: Sequence[int], hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.name = group.name
        self.encoder = ImageEncoder(group, channels)
        width = hidden[-1] if hidden else self.encoder.width
        self.head = nn.Sequential(
            Dropout(dropout),
            hidden_layers(self.encoder.width, hidden, dropout=dropout, activation="relu", norm=False),
            nn.Linear(width, schema.target.num_outputs),
        )

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map uint8 images `[B, H, W, C]` to logits or values `[B, O]`."""
        outputs: torch.Tensor = self.head(self.encoder(groups[self.name]))
        return outputs


def build(
    schema: Schema, *, channels: Sequence[int] = (32, 64, 128), hidden: Sequence[int] = (128,), dropout: float = 0.2
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset: a single image.
        channels: Number of channels of each stage of convolution and pooling; each halves height and width.
        hidden: Sizes of the dense layers.
        dropout: Share of activations that training drops, before and after the dense layers.

    Raises:
        ModelError: The dataset is not a single image, or its images are too small.
    """
    return Cnn(schema, require_single_group(schema, "image", "farandole.models.cnn"), channels, hidden, dropout)
