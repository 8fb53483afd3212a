"""Embeddings of a group of ids, laid side by side."""

from __future__ import annotations

import torch
from torch import nn

from farandole.shards import Group


class Embeddings(nn.Module):
    """One embedding for each feature of the group, laid side by side.

    An embedding of C ids has about 1.6 * C**0.56 numbers (the rule of thumb of fastai's tabular models), at most
    `max_embedding`.
    """

    def __init__(self, group: Group, max_embedding: int) -> None:
        super().__init__()
        sizes = [min(max_embedding, max(2, round(1.6 * count**0.56))) for count in group.cardinalities]
        self.tables = nn.ModuleList(
            nn.Embedding(count, size) for count, size in zip(group.cardinalities, sizes, strict=True)
        )
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.05)  # type: ignore[arg-type]
        self.width = sum(sizes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """float32 `[B, width]` of int32 `[B, K]`."""
        return torch.cat([table(ids[:, column]) for column, table in enumerate(self.tables)], dim=1)
