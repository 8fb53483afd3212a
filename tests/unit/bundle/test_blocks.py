"""The result of a row does not depend on what else is in its batch, to the bit."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from farandole.bundle.blocks import LINEAR_ROWS, pad_tensors, stabilize
from farandole.bundle.network import eager
from farandole.bundle.predictor import Predictor
from farandole.shards import Schema
from tests.support.bundles import BINARY, DIGITS, IDS, IMAGE, MASK, NUMBERS, SERIES, TOKENS, fitted, random_features
from tests.support.trainer_harness import one_thread

ROWS = 100
NETWORKS: dict[str, tuple[str, dict[str, Any], Schema]] = {
    "mlp": ("mlp", {"hidden": [128, 64]}, Schema(groups=(NUMBERS, IDS), label=BINARY)),
    "mlp of odd sizes": ("mlp", {"hidden": [101, 31], "norm": False}, Schema(groups=(NUMBERS, IDS), label=DIGITS)),
    "tabular": ("tabular", {}, Schema(groups=(NUMBERS, IDS), label=BINARY)),
    "cnn": ("cnn", {}, Schema(groups=(IMAGE,), label=DIGITS)),
    "lstm": ("rnn", {}, Schema(groups=(SERIES,), label=BINARY)),
    "gru": ("rnn", {"cell": "gru"}, Schema(groups=(SERIES,), label=BINARY)),
    "text": ("text", {}, Schema(groups=(TOKENS, MASK), label=BINARY)),
    "bag of words": ("text", {"layers": 0}, Schema(groups=(TOKENS, MASK), label=BINARY)),
    "fusion": ("fusion", {}, Schema(groups=(NUMBERS, IDS, IMAGE, TOKENS, MASK, SERIES), label=BINARY)),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_row_has_the_same_bits_alone_and_in_batches_of_any_size(name: str) -> None:
    module, options, schema = NETWORKS[name]
    torch.manual_seed(0)
    network = import_module(f"farandole.models.{module}").build(schema, **options).eval()
    features = random_features(schema, ROWS)
    with one_thread():
        with torch.no_grad():  # as the trainer evaluates, in batches of 64
            tensors = {group: torch.from_numpy(values) for group, values in features.items()}
            batches = [{group: value[at : at + 64] for group, value in tensors.items()} for at in range(0, ROWS, 64)]
            evaluated = torch.cat([network(**pad_tensors(batch)) for batch in batches])[:ROWS].numpy()
        predictor = Predictor(fitted(), {}, eager(network), 4)
        np.testing.assert_array_equal(predictor.outputs(features), evaluated)
        for start, stop in [(0, 1), (7, 8), (3, 5), (11, 18), (50, 63), (64, 95), (1, 100)]:
            part = {group: values[start:stop] for group, values in features.items()}
            np.testing.assert_array_equal(predictor.outputs(part), evaluated[start:stop], err_msg=f"{start}:{stop}")


def test_a_stable_layer_computes_what_the_layer_computes() -> None:
    layer = torch.nn.Linear(5, 3)
    x = torch.randn(2, 7, 5)
    expected = layer(x)
    stabilize(layer)
    assert layer(x).shape == (2, 7, 3)
    torch.testing.assert_close(layer(x), expected)
    assert layer(torch.empty(0, 5)).shape == (0, 3)


@pytest.mark.parametrize(("rows", "padded"), [(1, 16), (15, 16), (16, 16), (17, 32), (0, 0)])
def test_rows_are_filled_up_with_copies_of_the_last_one(rows: int, padded: int) -> None:
    values = torch.arange(rows * 3, dtype=torch.int32).view(rows, 3)
    found = pad_tensors({"ids": values}, LINEAR_ROWS)["ids"]
    assert found.shape == (padded, 3)
    assert found.dtype == values.dtype
    assert torch.equal(found[:rows], values)
    assert torch.equal(found[rows:], values[-1:].expand(padded - rows, 3))
