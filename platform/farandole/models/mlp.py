"""A multi-layer perceptron over dense features and embedded categories: the workhorse for tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.embedding import Embeddings
from farandole.shards import Schema


class Mlp(nn.Module):
    """Embeds ids, lays them beside the numbers of all groups, and maps them through hidden layers to the outputs.

    Shapes: B rows, F numbers of a group, K ids of a group, O outputs (`Schema.target.num_outputs`).
    """

    def __init__(
        self,
        schema: Schema,
        hidden: Sequence[int],
        dropout: float,
        embedding_dropout: float,
        max_embedding: int,
    ) -> None:
        super().__init__()
        self.groups = tuple(group.name for group in schema.groups)
        self.embeddings = nn.ModuleDict()
        width = 0
        for group in schema.groups:
            if group.kind == "ids":
                embedded = Embeddings(group, max_embedding)
                self.embeddings[f"group_{group.name}"] = embedded  # a module may not be named `items`
                width += embedded.width
            else:
                width += group.size
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.LayerNorm(size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, schema.target.num_outputs))

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Logits or values `[B, O]` of the groups `[B, F]` float32 and `[B, K]` int32."""
        parts = []
        for name in self.groups:
            part = groups[name]
            if f"group_{name}" in self.embeddings:
                part = self.embedding_dropout(self.embeddings[f"group_{name}"](part))
            parts.append(part)
        outputs: torch.Tensor = self.layers(torch.cat(parts, dim=1))
        return outputs


def build(
    schema: Schema,
    *,
    hidden: Sequence[int] = (128, 64),
    dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    max_embedding: int = 16,
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset.
        hidden: The sizes of the hidden layers.
        dropout: The share of hidden activations that training drops.
        embedding_dropout: The share of embedded numbers that training drops; guards against learning rare ids by heart.
        max_embedding: The greatest length of an embedding.

    Raises:
        ModelError: The dataset has texts, images or tensors.
    """
    for group in schema.groups:
        if group.kind not in ("numbers", "ids"):
            raise ModelError(
                f"model.builder: farandole.models.mlp reads groups of numbers and ids, and {group.name} holds"
                f" {group.kind}; write a builder of your own, or remove the feature"
            )
    return Mlp(schema, hidden, dropout, embedding_dropout, max_embedding)
