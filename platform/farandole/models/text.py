"""A network over one text: the mean of token embeddings, optionally after a small Transformer encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from farandole.errors import ModelError
from farandole.models.layers import Dropout, hidden_layers, require_single_group
from farandole.shards import Group, Schema


class Block(nn.Module):
    """Self-attention and a dense network, each with a residual connection and a pre-norm (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.dense_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = Dropout(dropout)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map states `[B, T, W]` to states `[B, T, W]`; tokens attend where the bool mask `[B, T]` is true."""
        rows, steps, width = states.shape
        parts = self.mixed(self.attention_norm(states)).view(rows, steps, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        states = states + self.dropout(self.attended(seen.transpose(1, 2).reshape(rows, steps, width)))
        moved: torch.Tensor = states + self.dropout(self.dense(self.dense_norm(states)))
        return moved


class TextEncoder(nn.Module):
    """An encoder of a text as the mean of its tokens' states.

    Args:
        group: The tokens; their mask is the group `NAME_mask`.
        width: Size of an embedding and of a state.
        layers: Blocks of self-attention; 0 makes a bag of embeddings, which ignores the order of tokens.
        heads: Attention heads; must divide the width.
        dropout: Share of activations that training drops.

    Raises:
        ModelError: The heads do not divide the width.
    """

    def __init__(self, group: Group, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        if layers and width % heads:
            raise ModelError(f"model.options.heads: {heads} does not divide the width {width}; choose a divisor of it")
        self.tokens = nn.Embedding(group.cardinalities[0], width)
        nn.init.normal_(self.tokens.weight, std=0.1)
        self.places = nn.Parameter(torch.randn(group.shape[0], width) * 0.02) if layers else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.dropout = Dropout(dropout)
        self.width = width

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map int32 tokens `[B, T]` and their bool mask to float32 `[B, width]`."""
        states = self.tokens(tokens)
        if self.places is not None:
            # An empty text would have nothing to attend to, so the first position is always visible.
            mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1)
            states = states + self.places
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, mask)
        weights = mask.to(states.dtype).unsqueeze(2)
        mean: torch.Tensor = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        return mean


class TextNetwork(nn.Module):
    """A text encoder followed by dense layers."""

    def __init__(
        self, schema: Schema, group: Group, width: int, layers: int, heads: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.name = group.name
        self.encoder = TextEncoder(group, width, layers, heads, dropout)
        self.head = nn.Sequential(
            nn.LayerNorm(width),
            hidden_layers(width, hidden, dropout=dropout, activation="gelu", norm=False),
            Dropout(dropout),
            nn.Linear(hidden[-1] if hidden else width, schema.target.num_outputs),
        )

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map int32 tokens `[B, T]` and their bool mask to logits or values `[B, O]`."""
        outputs: torch.Tensor = self.head(self.encoder(groups[self.name], groups[f"{self.name}_mask"].bool()))
        return outputs

    def id_layers(self) -> dict[str, nn.Module]:
        """Return the layer that reads the tokens, for explanations."""
        return {self.name: self.encoder.tokens}


def build(
    schema: Schema,
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    hidden: Sequence[int] = (),
    dropout: float = 0.1,
) -> nn.Module:
    """Build the network.

    Args:
        schema: The columns of the dataset: a single text of `mode: pad`.
        width: Size of an embedding, and of the encoder's states.
        layers: Blocks of self-attention; 0 makes a bag of embeddings.
        heads: Attention heads of each block.
        hidden: Sizes of the dense layers after the mean.
        dropout: Share of activations that training drops.

    Raises:
        ModelError: The dataset is not a single text, or an option is wrong.
    """
    group = require_single_group(schema, "tokens", "farandole.models.text")
    return TextNetwork(schema, group, width, layers, heads, hidden, dropout)
