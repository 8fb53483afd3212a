from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from farandole.errors import ModelError
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training.single_rows import check_single_rows
from farandole.training.world import World
from tests.support.made_data import ROWS, Made

CPU = torch.device("cpu")


class Normed(nn.Module):
    """A network with batch normalisation over rows, or over many values per channel of a row."""

    def __init__(self, norm: nn.Module, values: int) -> None:
        super().__init__()
        self.norm, self.values = norm, values
        self.out = nn.LazyLinear(1)

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        dense = groups["dense"][:, :1]
        spread = dense if self.values == 1 else dense[:, :, None].expand(-1, -1, self.values)
        outputs: torch.Tensor = self.out(self.norm(spread).flatten(1))
        return outputs


@pytest.fixture
def check(make_job: Callable[..., Job], made: Callable[..., Made]) -> Callable[..., None]:
    """Check a network for a number of workers and settings of the training."""

    def check(model: nn.Module, workers: int = 1, **train: Any) -> None:
        job, dataset = make_job(train=train), Dataset(made().path)
        check_single_rows(job, dataset, model, World(0, workers, 0, workers), CPU)

    return check


NORMED = Normed(nn.BatchNorm1d(1), 1)


def test_single_row_of_the_last_batch_names_the_remedy(check: Callable[..., None]) -> None:
    size = ROWS["train"] - 1
    problem = (
        rf"batch normalisation needs at least 2 rows, .* 962 training rows in batches of {size} leave 1 for 1 workers"
    )
    with pytest.raises(ModelError, match=problem + r".*; set `train\.tail: drop`"):
        check(NORMED, global_batch_size=size)
    check(NORMED, global_batch_size=size, tail="drop")
    check(NORMED, global_batch_size=size - 1)


@pytest.mark.parametrize("train", [{"global_batch_size": 2}, {"global_batch_size": 4, "accumulate_steps": 2}])
def test_single_row_of_every_batch_asks_for_a_larger_batch(check: Callable[..., None], train: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"use a larger train\.global_batch_size"):
        check(NORMED, workers=2, **train)


def test_two_rows_for_two_workers_are_single_rows(check: Callable[..., None]) -> None:
    """962 rows are 15 batches of 64 and a tail of 2."""
    check(NORMED, workers=1, global_batch_size=64)
    with pytest.raises(ModelError, match=r"leave 2 for 2 workers"):
        check(NORMED, workers=2, global_batch_size=64)


def test_networks_that_compute_a_single_row_are_accepted(check: Callable[..., None]) -> None:
    size = ROWS["train"] - 1
    check(Normed(nn.Identity(), 1), global_batch_size=size)
    check(Normed(nn.LayerNorm(1), 1), global_batch_size=size)
    check(Normed(nn.BatchNorm1d(1), 5), global_batch_size=size)  # five values per channel


def test_check_changes_neither_the_network_nor_the_random_numbers(check: Callable[..., None]) -> None:
    model = Normed(nn.BatchNorm1d(1), 5)
    before = torch.get_rng_state()
    check(model, global_batch_size=ROWS["train"] - 1)
    assert torch.equal(before, torch.get_rng_state())
    assert model.norm.num_batches_tracked == 0
    assert model.training
