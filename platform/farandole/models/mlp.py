"""A multi-layer perceptron over dense features, embedded categories and flattened arrays: the default for tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.layers import Dropout, Embeddings, hidden_layers, scale_pixels
from farandole.shards import Schema


class Mlp(nn.Module):
    """A network that embeds ids, concatenates them with the numbers of all groups, and applies hidden layers.

    Shapes: B rows, F numbers of a group, K ids of a group, O outputs (`Schema.target.num_outputs`).
    """

    def __init__(
        self,
        schema: Schema,
        hidden: Sequence[int],
        dropout: float,
        embedding_dropout: float,
        max_embedding: int,
        activation: str = "relu",
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.groups = tuple(group.name for group in schema.groups)
        self.images = frozenset(group.name for group in schema.groups if group.kind == "image")
        self.embeddings = nn.ModuleDict()
        width = 0
        for group in schema.groups:
            if group.kind == "ids":
                embeddings = Embeddings(group, max_embedding)
                self.embeddings[f"group_{group.name}"] = embeddings  # the prefix permits a group called `items`
                width += embeddings.width
            else:
                width += group.size
        self.embedding_dropout = Dropout(embedding_dropout)
        layers = hidden_layers(width, hidden, dropout=dropout, activation=activation, norm=norm)
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else width, schema.target.num_outputs))

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map numbers `[B, F]`, ids `[B, K]`, images and tensors `[B, …]` to logits or values `[B, O]`."""
        parts = []
        for name in self.groups:
            part = groups[name]
            if f"group_{name}" in self.embeddings:
                part = self.embedding_dropout(self.embeddings[f"group_{name}"](part))
            elif name in self.images:
                part = scale_pixels(part)
            parts.append(part.flatten(1).float())
        outputs: torch.Tensor = self.layers(torch.cat(parts, dim=1))
        return outputs

    def id_layers(self) -> dict[str, nn.Module]:
        """Return the layer that reads each group of ids, for explanations."""
        return {name.removeprefix("group_"): layer for name, layer in self.embeddings.items()}


def build(
    schema: Schema,
    *,
    hidden: Sequence[int] = (128, 64),
    dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    max_embedding: int = 16,
    activation: str = "relu",
    norm: bool = True,
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset.
        hidden: Sizes of the hidden layers.
        dropout: Share of hidden activations that training drops.
        embedding_dropout: Share of embedded numbers that training drops, against memorizing rare ids.
        max_embedding: Maximum length of an embedding.
        activation: Activation of each hidden layer: `relu`, `gelu`, `silu`, `tanh` or `sigmoid`.
        norm: Whether each hidden layer has a layer norm.

    Raises:
        ModelError: The dataset has texts, or an option is wrong.
    """
    for group in schema.groups:
        if group.kind in ("tokens", "mask"):
            raise ModelError(
                f"model.builder: farandole.models.mlp reads numbers, ids, images and tensors, but {group.name} holds"
                f" {group.kind}; use farandole.models.text or farandole.models.fusion, or remove the feature"
            )
    return Mlp(schema, hidden, dropout, embedding_dropout, max_embedding, activation, norm)
