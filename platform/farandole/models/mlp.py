"""A multi-layer perceptron over dense features, embedded categories and flattened arrays: the workhorse for tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.embedding import Embeddings
from farandole.models.pixels import scaled
from farandole.shards import Schema

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
"""What may stand between two layers."""


def hidden_layers(width: int, sizes: Sequence[int], *, dropout: float, activation: str, norm: bool) -> nn.Sequential:
    """Hidden layers one after the other: linear, layer norm, activation, dropout.

    Args:
        width: The numbers that come in, for each row.
        sizes: The sizes of the layers.
        dropout: The share of activations that training drops.
        activation: One of `ACTIVATIONS`.
        norm: Whether there is a layer norm in each layer.

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
        layers += [ACTIVATIONS[activation](), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers)


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
                embedded = Embeddings(group, max_embedding)
                self.embeddings[f"group_{group.name}"] = embedded  # a module may not be named `items`
                width += embedded.width
            else:
                width += group.size
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        layers = hidden_layers(width, hidden, dropout=dropout, activation=activation, norm=norm)
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else width, schema.target.num_outputs))

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Logits or values `[B, O]` of the groups: numbers `[B, F]`, ids `[B, K]`, images and tensors `[B, …]`."""
        parts = []
        for name in self.groups:
            part = groups[name]
            if f"group_{name}" in self.embeddings:
                part = self.embedding_dropout(self.embeddings[f"group_{name}"](part))
            elif name in self.images:
                part = scaled(part)
            parts.append(part.flatten(1).float())
        outputs: torch.Tensor = self.layers(torch.cat(parts, dim=1))
        return outputs


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
        hidden: The sizes of the hidden layers.
        dropout: The share of hidden activations that training drops.
        embedding_dropout: The share of embedded numbers that training drops; guards against learning rare ids by heart.
        max_embedding: The greatest length of an embedding.
        activation: What follows each hidden layer: `relu`, `gelu`, `silu`, `tanh` or `sigmoid`.
        norm: Whether each hidden layer has a layer norm.

    Raises:
        ModelError: The dataset has texts, or an option is wrong.
    """
    for group in schema.groups:
        if group.kind in ("tokens", "mask"):
            raise ModelError(
                f"model.builder: farandole.models.mlp reads numbers, ids, images and tensors, and {group.name} holds"
                f" {group.kind}; use farandole.models.text or farandole.models.fusion, or remove the feature"
            )
    return Mlp(schema, hidden, dropout, embedding_dropout, max_embedding, activation, norm)
