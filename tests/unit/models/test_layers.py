from __future__ import annotations

import pytest
import torch

from farandole.models.embedding import Embeddings
from farandole.shards import Group


def embeddings(*cardinalities: int, most: int = 32) -> Embeddings:
    """One embedding for each number of ids."""
    names = tuple(f"c{number}" for number in range(len(cardinalities)))
    return Embeddings(Group(name="ids", kind="ids", features=names, cardinalities=cardinalities), most)


@pytest.mark.parametrize(("count", "width"), [(2, 2), (3, 3), (100, 21), (10**5, 32)])
def test_more_ids_get_longer_embeddings_up_to_the_most(count: int, width: int) -> None:
    made = embeddings(count)
    assert made.width == width
    assert made.tables[0].weight.shape == (count, width)


def test_each_feature_has_its_own_table_side_by_side() -> None:
    made = embeddings(3, 100, most=8)
    ids = torch.tensor([[0, 99], [2, 0]], dtype=torch.int32)
    out = made(ids)
    assert out.shape == (2, made.width) == (2, 3 + 8)
    assert torch.equal(out[0], torch.cat([made.tables[0].weight[0], made.tables[1].weight[99]]))
    assert torch.equal(out[1], torch.cat([made.tables[0].weight[2], made.tables[1].weight[0]]))
