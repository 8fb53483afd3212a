from __future__ import annotations

import math

import pytest
import torch

from farandole.spec import EarlyStopping as EarlyStoppingSpec
from farandole.training.evaluation.early_stopping import BestTracker, EarlyStopping


@pytest.mark.parametrize(("direction", "values"), [("max", (0.5, 0.6, 0.55, 0.6)), ("min", (2.0, 1.0, 1.5, 1.0))])
def test_only_better_is_better(direction: str, values: tuple[float, ...]) -> None:
    best = BestTracker(direction)
    assert [best.add(value) for value in values] == [True, True, False, False]
    assert (best.value, best.waited) == (values[1], 2)


def test_a_small_change_does_not_count_nor_does_what_is_no_number() -> None:
    best = BestTracker("max", min_change=0.1)
    assert [best.add(value) for value in (0.5, 0.6, 0.65, math.nan, None)] == [True, False, True, False, False]


def test_training_stops_after_its_patience_and_keeps_the_best_weights() -> None:
    stopper = EarlyStopping(EarlyStoppingSpec(patience=2, restore_best=True), "rmse", "min")
    over = []
    for step, rmse in enumerate((3.0, 1.0, 2.0, 1.0)):
        stopper.validated({"rmse": rmse}, {"w": torch.tensor([float(step)])})
        over.append(stopper.over)
    assert over == [False, False, False, True]
    assert stopper.weights == {"w": torch.tensor([1.0])}
    other = EarlyStopping(EarlyStoppingSpec(patience=2, restore_best=True), "rmse", "min")
    other.load_state_dict(stopper.state_dict())
    assert (other.over, other.best, other.metrics) == (True, 1.0, {"rmse": 1.0})
