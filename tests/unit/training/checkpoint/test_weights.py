from __future__ import annotations

import pytest
import torch

from farandole.training.checkpoint import weights_digest


def test_weights_that_are_the_same_have_one_digest() -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    again = {"b": torch.tensor(1), "a": torch.arange(6.0).reshape(3, 2).T.reshape(2, 3)}
    again["a"] = torch.arange(6.0).reshape(2, 3).T.contiguous().T
    assert not again["a"].is_contiguous()
    assert weights_digest(weights) == weights_digest(again)
    assert len(weights_digest(weights)) == 64


def test_name_shape_type_and_every_bit_enter_the_digest() -> None:
    base = torch.zeros(2, 3)
    others = [
        {"b": base},
        {"a": base.reshape(3, 2)},
        {"a": base.reshape(6)},
        {"a": base.double()},
        {"a": base.int()},
        {"a": -base},
        {"a": base + 1e-45},
        {"a": base, "b": base},
        {"a": base[:1], "b": base[:1]},
        {},
    ]
    assert len({weights_digest({"a": base}), *(weights_digest(other) for other in others)}) == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.uint8])
def test_all_types_have_a_digest(dtype: torch.dtype) -> None:
    digests = {weights_digest({"a": torch.tensor(values).to(dtype)}) for values in ([0, 1], [1, 0], [], 1)}
    assert len(digests) == 4


def test_weights_that_learn_have_a_digest() -> None:
    layer = torch.nn.Linear(2, 2)
    assert weights_digest(dict(layer.named_parameters())) == weights_digest(layer.state_dict())
