from __future__ import annotations

from typing import Any

import pytest
import torch

from farandole.models.layers import Dropout, Embeddings, drop_activations
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


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.9, 0.999999])
def test_dropout_keeps_the_mean_and_drops_the_share(rate: float) -> None:
    torch.manual_seed(0)
    kept = drop_activations(torch.ones(1001, 1001), rate)
    assert (kept == 0).float().mean().item() == pytest.approx(rate, abs=0.002)
    if rate < 0.99:
        assert kept.mean().item() == pytest.approx(1.0, abs=0.01)


def test_gradient_passes_where_dropout_kept_the_activation() -> None:
    x = torch.ones(101, 7, requires_grad=True)
    kept = drop_activations(x, 0.5)
    kept.sum().backward()
    assert torch.equal(x.grad, kept.detach())
    assert set(kept.unique().tolist()) == {0.0, 2.0}


def test_dropout_keeps_the_type_of_the_activations() -> None:
    assert drop_activations(torch.ones(5, 3, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16


def test_dropout_depends_on_the_seed_alone() -> None:
    layer, x = Dropout(0.3), torch.ones(50, 3)
    drawn = [(torch.manual_seed(seed), layer(x))[1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_dropout_has_no_effect_outside_training_and_drops_all_at_a_rate_of_1() -> None:
    x = torch.ones(5, 3)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
