"""A network over groups of all kinds: one encoder per group, then dense layers over all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.models.cnn import ImageEncoder
from farandole.models.layers import Dropout, Embeddings, hidden_layers
from farandole.models.rnn import SeriesEncoder
from farandole.models.text import TextEncoder
from farandole.shards import Group, Schema


class Fusion(nn.Module):
    """A network that encodes each group, concatenates the codes, and maps them through hidden layers to the outputs.

    Images are encoded by convolutions, texts by embeddings and attention, series (two-dimensional tensors) by recurrent
    cells, ids by embeddings; numbers and other tensors are used unchanged. Each encoder's output is projected to the
    same width and normalized, so that no group dominates the others.
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
            Dropout(dropout),
            hidden_layers(total, hidden, dropout=dropout, activation="gelu", norm=True),
            nn.Linear(hidden[-1] if hidden else total, schema.target.num_outputs),
        )

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map all groups to logits or values `[B, O]`."""
        parts = []
        for group in self.groups:
            module_name, values = f"group_{group.name}", groups[group.name]
            if module_name in self.encoders:
                masks = [groups[f"{group.name}_mask"].bool()] if group.kind == "tokens" else []
                values = self.codes[module_name](self.encoders[module_name](values, *masks))
            parts.append(values.flatten(1).float())
        outputs: torch.Tensor = self.head(torch.cat(parts, dim=1))
        return outputs

    def id_layers(self) -> dict[str, nn.Module]:
        """Return the layer that reads each group of ids or tokens, for explanations."""
        layers: dict[str, nn.Module] = {}
        for name, encoder in self.encoders.items():
            if isinstance(encoder, TextEncoder):
                layers[name.removeprefix("group_")] = encoder.tokens
            elif isinstance(encoder, Embeddings):
                layers[name.removeprefix("group_")] = encoder
        return layers


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
        width: Size of a text's states, of a series' state, and of each encoder's output.
        hidden: Sizes of the dense layers over all groups.
        dropout: Share of activations that training drops.
        channels: Images: number of channels of each stage of convolution and pooling.
        layers: Texts: blocks of self-attention; 0 makes a bag of embeddings.
        heads: Texts: attention heads.
        cell: Series: `lstm` or `gru`.
        max_embedding: Ids: maximum length of an embedding.

    Raises:
        ModelError: A group does not suit its encoder, or an option is wrong.
    """

    def make_encoder(group: Group) -> nn.Module | None:
        if group.kind == "image":
            return ImageEncoder(group, channels)
        if group.kind == "tokens":
            return TextEncoder(group, width, layers, heads, dropout)
        if group.kind == "ids":
            return Embeddings(group, max_embedding)
        if group.kind == "tensor" and len(group.shape) == 2:
            return SeriesEncoder(group, cell, width, 1, 0.0)
        return None

    by_group = {group.name: make_encoder(group) for group in schema.groups}
    encoders = {name: encoder for name, encoder in by_group.items() if encoder is not None}
    return Fusion(schema, encoders, width, hidden, dropout)
