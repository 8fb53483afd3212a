from __future__ import annotations

import math

import pytest
import torch

from farandole.spec import EarlyStopping as EarlyStoppingSpec
from farandole.training.evaluation.early_stopping import BestTracker, EarlyStopping


@pytest.mark.parametrize(("direction", "values"), [("max", (0.5, 0.6, 0.55, 0.6)), ("min", (2.0, 1.0, 1.5, 1.0))])
def test_only_improvements_count(direction: str, values: tuple[float, ...]) -> None:
    best = BestTracker(direction)
    assert [best.add(value) for value in values] == [True, True, False, False]
    assert (best.value, best.num_waited) == (values[1], 2)


def test_small_changes_and_nan_do_not_count() -> None:
    best = BestTracker("max", min_change=0.1)
    assert [best.add(value) for value in (0.5, 0.6, 0.65, math.nan, None)] == [True, False, True, False, False]


def test_training_stops_after_patience_and_keeps_the_best_weights() -> None:
    stopper = EarlyStopping(EarlyStoppingSpec(patience=2, restore_best=True), "rmse", "min")
    over = []
    for step, rmse in enumerate((3.0, 1.0, 2.0, 1.0)):
        stopper.add_validation({"rmse": rmse}, {"w": torch.tensor([float(step)])})
        over.append(stopper.should_stop)
    assert over == [False, False, False, True]
    assert stopper.best_weights == {"w": torch.tensor([1.0])}
    other = EarlyStopping(EarlyStoppingSpec(patience=2, restore_best=True), "rmse", "min")
    other.load_state_dict(stopper.state_dict())
    assert (other.should_stop, other.best_value, other.best_metrics) == (True, 1.0, {"rmse": 1.0})
