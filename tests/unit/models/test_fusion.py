from __future__ import annotations

from typing import Any

import torch

from farandole.models.fusion import build
from farandole.shards import Group, LabelColumn, Schema

GROUPS = {
    "dense": Group(name="dense", kind="numbers", features=("a", "b")),
    "ids": Group(name="ids", kind="ids", features=("c",), cardinalities=(5,)),
    "picture": Group(name="picture", kind="image", features=("picture",), shape=(8, 8, 3)),
    "title": Group(name="title", kind="tokens", features=("title",), cardinalities=(50,), shape=(6,)),
    "title_mask": Group(name="title_mask", kind="mask", features=("title",), shape=(6,)),
    "past": Group(name="past", kind="tensor", features=("past",), shape=(4, 2), value_type="float32"),
    "box": Group(name="box", kind="tensor", features=("box",), shape=(3,), value_type="uint8"),
}
TOKENS = torch.randint(3, 50, (5, 6), dtype=torch.int32)
BATCH = {
    "dense": torch.randn(5, 2),
    "ids": torch.randint(0, 5, (5, 1), dtype=torch.int32),
    "picture": torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8),
    "title": TOKENS,
    "title_mask": torch.ones(5, 6, dtype=torch.bool),
    "past": torch.randn(5, 4, 2),
    "box": torch.randint(0, 9, (5, 3), dtype=torch.uint8),
}
BINARY = LabelColumn(kind="binary", column="y", classes=("no", "yes"))


def test_groups_of_all_kinds_are_encoded_and_every_parameter_gets_a_gradient() -> None:
    model = build(Schema(groups=tuple(GROUPS.values()), label=BINARY), width=8, channels=(4, 4), layers=1, heads=2)
    out = model(**BATCH)
    assert out.shape == (5, 1)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_every_group_affects_the_output() -> None:
    torch.manual_seed(0)
    model = build(Schema(groups=tuple(GROUPS.values()), label=BINARY), width=8, channels=(4, 4)).eval()
    before = model(**BATCH)
    for name, values in BATCH.items():
        if name != "title_mask":
            assert not torch.allclose(model(**{**BATCH, name: torch.zeros_like(values)}), before), name


def test_numbers_alone_need_no_encoder() -> None:
    model: Any = build(Schema(groups=(GROUPS["dense"],), label=BINARY), hidden=())
    assert model(dense=BATCH["dense"]).shape == (5, 1)
    assert not len(model.encoders)
