"""One network over groups of all kinds: an encoder for each group, then dense layers over all that they say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.models.cnn import ImageEncoder
from farandole.models.embedding import Embeddings
from farandole.models.mlp import hidden_layers
from farandole.models.rnn import SeriesEncoder
from farandole.models.text import TextEncoder
from farandole.shards import Group, Schema


class Fusion(nn.Module):
    """Encodes each group, lays the codes side by side, and maps them through hidden layers to the outputs.

    Images go through convolutions, texts through embeddings and attention, series (tensors of two dimensions) through
    cells, ids through embeddings; numbers and other tensors as they are. What an encoder gives is normed and brought
    to one width, so that none drowns the others.
    """

    def __init__(
        self, schema: Schema, encoders: dict[str, nn.Module], width: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.groups = tuple(group for group in schema.groups if group.kind != "mask")
        self.encoders = nn.ModuleDict({f"group_{name}": encoder for name, encoder in encoders.items()})
        self.codes = nn.ModuleDict()
        total = 0
        for group in self.groups:
            if group.name in encoders:
                code = nn.Sequential(nn.Linear(int(encoders[group.name].width), width), nn.LayerNorm(width), nn.GELU())  # type: ignore[arg-type]
                self.codes[f"group_{group.name}"] = code
            total += width if group.name in encoders else group.size
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            hidden_layers(total, hidden, dropout=dropout, activation="gelu", norm=True),
            nn.Linear(hidden[-1] if hidden else total, schema.target.num_outputs),
        )

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Logits or values `[B, O]` of all groups."""
        parts = []
        for group in self.groups:
            place, values = f"group_{group.name}", groups[group.name]
            if place in self.encoders:
                masks = [groups[f"{group.name}_mask"].bool()] if group.kind == "tokens" else []
                values = self.codes[place](self.encoders[place](values, *masks))
            parts.append(values.flatten(1).float())
        outputs: torch.Tensor = self.head(torch.cat(parts, dim=1))
        return outputs


def build(
    schema: Schema,
    *,
    width: int = 64,
    hidden: Sequence[int] = (128,),
    dropout: float = 0.1,
    channels: Sequence[int] = (32, 64, 128),
    layers: int = 0,
    heads: int = 4,
    cell: str = "gru",
    max_embedding: int = 16,
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset.
        width: The size of a text's states, of a series' state, and of what each encoder gives.
        hidden: The sizes of the dense layers over all groups.
        dropout: The share of activations that training drops.
        channels: Images: the channels of each stage of convolution and pooling.
        layers: Texts: blocks of self-attention; 0 makes a bag of embeddings.
        heads: Texts: heads of attention.
        cell: Series: `lstm` or `gru`.
        max_embedding: Ids: the greatest length of an embedding.

    Raises:
        ModelError: A group does not suit its encoder, or an option is wrong.
    """

    def encoder(group: Group) -> nn.Module | None:
        if group.kind == "image":
            return ImageEncoder(group, channels)
        if group.kind == "tokens":
            return TextEncoder(group, width, layers, heads, dropout)
        if group.kind == "ids":
            return Embeddings(group, max_embedding)
        if group.kind == "tensor" and len(group.shape) == 2:
            return SeriesEncoder(group, cell, width, 1, 0.0)
        return None

    found = {group.name: encoder(group) for group in schema.groups}
    encoders = {name: module for name, module in found.items() if module is not None}
    return Fusion(schema, encoders, width, hidden, dropout)
