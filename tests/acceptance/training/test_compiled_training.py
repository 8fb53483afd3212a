"""Training of a compiled network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from farandole.spec import Job
from tests.support.trainer_harness import Harness, open_harness

MakeJob = Callable[..., Job]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Return a harness with an empty directory of checkpoints."""
    with open_harness(tmp_path) as harness:
        yield harness


@pytest.mark.slow(seconds=50)
def test_compiled_network_learns_the_same(harness: Harness, make_job: MakeJob) -> None:
    # No dropout: compiled code draws other random numbers.
    mlp = {"builder": "farandole.models.mlp:build", "options": {"hidden": [16, 8], "dropout": 0.0}}
    plain = harness.fit(make_job(train__epochs=1, model=mlp))
    losses = [value for _, value in harness.logged.pop("train.loss")]
    harness.remove_checkpoints()
    compiled = harness.fit(make_job(train__epochs=1, train__compile=True, model=mlp))
    assert [value for _, value in harness.logged["train.loss"]] == pytest.approx(losses, rel=1e-4)
    weights = compiled.model.state_dict()
    assert list(weights) == list(plain.model.state_dict())  # no `_orig_mod.`: checkpoints are interchangeable
    torch.testing.assert_close(weights, plain.model.state_dict(), rtol=1e-3, atol=1e-4)
