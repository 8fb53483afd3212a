from __future__ import annotations

import pytest
import torch

from farandole.errors import ModelError
from farandole.models.text import build
from farandole.shards import Group, LabelColumn, Schema

GROUPS = (
    Group(name="title", kind="tokens", features=("title",), cardinalities=(50,), shape=(6,)),
    Group(name="title_mask", kind="mask", features=("title",), shape=(6,)),
)
SCHEMA = Schema(groups=GROUPS, label=LabelColumn(kind="multiclass", column="y", classes=("a", "b", "c")))
TOKENS = torch.tensor([[5, 6, 7, 2, 0, 0], [9, 2, 0, 0, 0, 0]], dtype=torch.int32)


@pytest.mark.parametrize("layers", [0, 2])
def test_texts_are_encoded_and_every_parameter_gets_a_gradient(layers: int) -> None:
    model = build(SCHEMA, width=16, layers=layers, hidden=(8,))
    out = model(title=TOKENS, title_mask=TOKENS > 0)
    assert out.shape == (2, 3)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("layers", [0, 2])
def test_the_output_does_not_depend_on_padding(layers: int) -> None:
    model = build(SCHEMA, width=16, layers=layers).eval()
    mask = TOKENS > 0
    other = torch.where(mask, TOKENS, 33)
    assert torch.allclose(model(title=TOKENS, title_mask=mask), model(title=other, title_mask=mask), atol=1e-6)


def test_attention_depends_on_the_order_of_tokens_and_a_bag_does_not() -> None:
    torch.manual_seed(0)
    reversed_tokens = TOKENS.clone()
    reversed_tokens[0, :3] = TOKENS[0, :3].flip(0)
    for layers, same in ((0, True), (1, False)):
        model = build(SCHEMA, width=16, layers=layers).eval()
        outputs = [model(title=tokens, title_mask=tokens > 0)[0] for tokens in (TOKENS, reversed_tokens)]
        assert torch.allclose(outputs[0], outputs[1], atol=1e-6) is same


@pytest.mark.parametrize("layers", [0, 2])
def test_an_empty_text_gives_finite_outputs(layers: int) -> None:
    model = build(SCHEMA, width=16, layers=layers)
    empty = torch.zeros(1, 6, dtype=torch.int32)
    out = model(title=empty, title_mask=empty > 0)
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_heads_that_do_not_divide_the_width_are_rejected() -> None:
    with pytest.raises(ModelError, match=r"heads: 3 does not divide the width 16"):
        build(SCHEMA, width=16, heads=3)
