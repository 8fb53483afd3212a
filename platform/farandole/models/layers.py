"""Building blocks that the model builders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.shards import Group, Schema

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
"""Activation functions by name."""
_LEVELS = 2**16
"""Number of levels of the random numbers that decide what dropout keeps."""


def require_single_group(schema: Schema, kind: str, builder: str) -> Group:
    """Return the only group of a dataset; a mask beside it does not count.

    Args:
        schema: The columns of the dataset.
        kind: The kind of group that the builder reads.
        builder: Name of the builder, for the error.

    Raises:
        ModelError: The dataset does not consist of a single group of this kind.
    """
    groups = [group for group in schema.groups if group.kind != "mask"]
    if len(groups) == 1 and groups[0].kind == kind:
        return groups[0]
    found = ", ".join(f"{group.name} ({group.kind})" for group in groups)
    raise ModelError(
        f"model.builder: {builder} reads a single group of kind {kind}, but the dataset has {found}; use"
        " farandole.models.fusion for several groups, or remove features"
    )


def hidden_layers(width: int, sizes: Sequence[int], *, dropout: float, activation: str, norm: bool) -> nn.Sequential:
    """Build a stack of hidden layers, each with a linear map, layer norm, activation and dropout.

    Args:
        width: Number of inputs per row.
        sizes: Sizes of the layers.
        dropout: Share of activations that training drops.
        activation: One of `ACTIVATIONS`.
        norm: Whether each layer has a layer norm.

    Raises:
        ModelError: The activation does not exist.
    """
    if activation not in ACTIVATIONS:
        raise ModelError(f"model.options.activation: {activation!r} is unknown; use one of {', '.join(ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for size in sizes:
        layers.append(nn.Linear(width, size))
        if norm:
            layers.append(nn.LayerNorm(size))
        layers += [ACTIVATIONS[activation](), Dropout(dropout)]
        width = size
    return nn.Sequential(*layers)


class Dropout(nn.Dropout):
    """Dropout by `drop_activations`, which is quicker on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, …]` to the same shape."""
        return drop_activations(x, self.p) if self.training and 0 < self.p < 1 else super().forward(x)


def drop_activations(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Set a share of activations to zero and scale the others, as dropout does (Srivastava et al. 2014).

    On a CPU, torch draws a 64-bit number for each activation, which takes longer than the matrix products of a small
    network. This draws 16 bits for each, so that the rate is a multiple of 1/65536.
    """
    if x.device.type != "cpu":
        return nn.functional.dropout(x, rate)
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)
    # Whole numbers, so clamping leaves 0 or 1: torch converts truth values to numbers more slowly.
    kept = draws.float().sub_(dropped - _LEVELS // 2 - 1).clamp_(0, 1)
    return x * kept.mul_(_LEVELS / (_LEVELS - dropped)).to(x.dtype)


class Embeddings(nn.Module):
    """One embedding per feature of a group of ids, concatenated.

    The embedding of a feature with C ids has about 1.6 * C**0.56 numbers (the rule of thumb of fastai's tabular
    models), at most `max_embedding`.
    """

    widths: tuple[int, ...]
    """The number of columns of the output that each feature has."""

    def __init__(self, group: Group, max_embedding: int) -> None:
        super().__init__()
        sizes = [min(max_embedding, max(2, round(1.6 * count**0.56))) for count in group.cardinalities]
        self.tables = nn.ModuleList(
            nn.Embedding(count, size) for count, size in zip(group.cardinalities, sizes, strict=True)
        )
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.05)  # type: ignore[arg-type]
        self.widths = tuple(sizes)
        self.width = sum(sizes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map int32 ids `[B, K]` to float32 `[B, width]`."""
        return torch.cat([table(ids[:, column]) for column, table in enumerate(self.tables)], dim=1)


def scale_pixels(images: torch.Tensor) -> torch.Tensor:
    """Map uint8 in [0, 255] to float32 in [-1, 1], for any shape."""
    return images.float() / 127.5 - 1


def to_planes(images: torch.Tensor) -> torch.Tensor:
    """Map uint8 images `[B, H, W, C]` to float32 `[B, C, H, W]` in [-1, 1], in the `channels_last` memory format."""
    return scale_pixels(images).permute(0, 3, 1, 2)
