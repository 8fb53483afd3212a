from __future__ import annotations

from typing import Any

import pytest
import torch

from farandole.models.layers import Embeddings
from farandole.shards import Group


def embeddings(*cardinalities: int, max_embedding: int = 32) -> Embeddings:
    """Return embeddings for features with these numbers of ids."""
    names = tuple(f"c{number}" for number in range(len(cardinalities)))
    return Embeddings(Group(name="ids", kind="ids", features=names, cardinalities=cardinalities), max_embedding)


@pytest.mark.parametrize(("count", "width"), [(2, 2), (3, 3), (100, 21), (10**5, 32)])
def test_more_ids_get_longer_embeddings_up_to_the_maximum(count: int, width: int) -> None:
    made = embeddings(count)
    assert made.width == width
    assert made.tables[0].weight.shape == (count, width)


def test_the_embeddings_of_all_features_are_concatenated() -> None:
    made: Any = embeddings(3, 100, max_embedding=8)
    ids = torch.tensor([[0, 99], [2, 0]], dtype=torch.int32)
    out = made(ids)
    assert out.shape == (2, made.width) == (2, 3 + 8)
    assert torch.equal(out[0], torch.cat([made.tables[0].weight[0], made.tables[1].weight[99]]))
    assert torch.equal(out[1], torch.cat([made.tables[0].weight[2], made.tables[1].weight[0]]))
