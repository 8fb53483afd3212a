from __future__ import annotations

from typing import Any

import pytest
import torch

from farandole.errors import ModelError
from farandole.models.cnn import ImageEncoder, build
from farandole.shards import Group, LabelColumn, Schema

TEN = LabelColumn(kind="multiclass", column="y", classes=tuple("0123456789"))


def images(height: int = 28, width: int = 28, channels: int = 1) -> Group:
    return Group(name="picture", kind="image", features=("picture",), shape=(height, width, channels))


@pytest.mark.parametrize(("group", "codes"), [(images(), 8 * 3 * 3), (images(32, 32, 3), 8 * 4 * 4)])
def test_each_stage_halves_the_image_and_every_parameter_gets_a_gradient(group: Group, codes: int) -> None:
    model: Any = build(Schema(groups=(group,), label=TEN), channels=(4, 6, 8), hidden=(16,))
    assert model.encoder.width == codes
    out = model(picture=torch.randint(0, 256, (5, *group.shape), dtype=torch.uint8))
    assert out.shape == (5, 10)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_image_too_small_for_the_stages_is_rejected() -> None:
    with pytest.raises(ModelError, match=r"3 stages .* picture has 7 x 28 pixels; .* images of at least 8 pixels"):
        ImageEncoder(images(7), (4, 4, 4))


def test_other_groups_are_rejected_by_name() -> None:
    dense = Group(name="dense", kind="numbers", features=("a",))
    with pytest.raises(
        ModelError, match=r"reads a single group of kind image, .* picture \(image\), dense \(numbers\)"
    ):
        build(Schema(groups=(images(), dense), label=TEN))


def test_the_network_learns_which_side_is_bright() -> None:
    torch.manual_seed(0)
    side = LabelColumn(kind="binary", column="y", classes=("left", "right"))
    model = build(Schema(groups=(images(8, 8),), label=side), channels=(4, 4), hidden=())
    label = torch.arange(64) % 2
    pictures = torch.randint(0, 60, (64, 8, 8, 1), dtype=torch.uint8)
    pictures[label == 0, :, :4] += 150
    pictures[label == 1, :, 4:] += 150
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(picture=pictures).squeeze(1), label.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    assert ((model(picture=pictures).squeeze(1) > 0).long() == label).all()
