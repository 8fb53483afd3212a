from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from farandole.errors import ModelError
from farandole.training.checkpoint.flatten import TensorSlot, flatten, unflatten


def test_a_tree_is_put_together_as_it_was() -> None:
    state: dict[str, Any] = {"a": [torch.ones(2), (1, 2.5)], "b": {0: {"c": torch.tensor(3), "d": 0.5}}}
    tree, tensors = flatten(state)
    assert tree == {"a": [TensorSlot(0), (1, 2.5)], "b": {0: {"c": TensorSlot(1), "d": 0.5}}}
    torch.testing.assert_close(unflatten(tree, tensors), state)


def test_weights_that_are_tied_are_one_tensor_and_views_of_one_are_several() -> None:
    weight = torch.arange(6.0)
    tree, tensors = flatten({"a": weight, "b": weight, "c": weight[:3], "d": torch.empty(0), "e": torch.empty(0)})
    assert tree["a"] == tree["b"] != tree["c"]
    assert tree["d"] != tree["e"]
    assert len(tensors) == 4


def test_the_versions_of_a_modules_layers_stay_with_its_state() -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    again = unflatten(*flatten({"model": state}))["model"]
    assert isinstance(again, OrderedDict)
    assert again._metadata == state._metadata != {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0, torch.nn.Linear(1, 1)])
def test_an_object_that_would_run_code_when_it_is_read_is_refused_by_its_path(value: object) -> None:
    with pytest.raises(
        ModelError, match=r"model: the state model\.extra\[1\] is a \w+, which a checkpoint cannot hold"
    ):
        flatten({"model": {"extra": [1, value]}})
