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


def test_validation_without_the_metric_is_not_waited_for() -> None:
    best = BestTracker("max")
    assert [best.add(value) for value in (None, 0.5, None, math.nan)] == [False, True, False, False]
    assert best.num_waited == 1


def test_small_changes_and_nan_do_not_count() -> None:
    best = BestTracker("max", min_change=0.1)
    assert [best.add(value) for value in (0.5, 0.6, 0.65, math.nan, None)] == [True, False, True, False, False]


def stopper(patience: int | None = None, *, keep_weights: bool = True) -> EarlyStopping:
    """Return the part that keeps the best weights by the RMSE."""
    spec = EarlyStoppingSpec(patience=patience) if patience else None
    return EarlyStopping(spec, "rmse", "min", keep_weights=keep_weights)


def test_training_stops_after_patience_and_keeps_the_best_weights() -> None:
    stopping = stopper(2)
    over = []
    for step, rmse in enumerate((3.0, 1.0, 2.0, 1.0)):
        stopping.add_validation({"rmse": rmse}, {"w": torch.tensor([float(step)])})
        over.append(stopping.should_stop)
    assert over == [False, False, False, True]
    assert stopping.best_weights == {"w": torch.tensor([1.0])}
    assert (stopping.best_epoch, stopping.best_metrics) == (2, {"rmse": 1.0})
    other = stopper(2)
    other.load_state_dict(stopping.state_dict())
    assert (other.should_stop, other.best_value, other.best_metrics) == (True, 1.0, {"rmse": 1.0})
    assert (other.best_epoch, other.history) == (2, stopping.history)


def test_best_weights_are_kept_without_an_early_end() -> None:
    stopping = stopper()
    weight = torch.zeros(1)
    for rmse in (1.0, 2.0, 3.0, math.nan):
        stopping.add_validation({"rmse": rmse}, {"w": weight, "extra": {"seen": 3}})
        weight += 1  # training changes the weights in place
    assert not stopping.should_stop
    assert stopping.best_epoch == 1
    assert stopping.best_weights == {"w": torch.zeros(1), "extra": {"seen": 3}}


def test_log_loss_decides_between_epochs_with_the_same_value() -> None:
    stopping = EarlyStopping(EarlyStoppingSpec(patience=3), "roc_auc", "max", keep_weights=True)
    for step, (area, loss) in enumerate(((0.9, 0.1), (1.0, 0.6), (1.0, 0.4), (1.0, 0.5), (0.8, 0.01))):
        stopping.add_validation({"roc_auc": area, "log_loss": loss}, {"w": torch.tensor([float(step)])})
    assert stopping.best_epoch == 3
    assert stopping.best_weights == {"w": torch.tensor([2.0])}
    assert stopping.best_value == 1.0
    assert stopping.should_stop  # a tie is not an improvement


def test_tied_weights_are_copied_once() -> None:
    stopping, tied = stopper(), torch.ones(2)
    stopping.add_validation({"rmse": 1.0}, {"first": tied, "second": tied})
    assert stopping.best_weights is not None
    assert stopping.best_weights["first"].data_ptr() == stopping.best_weights["second"].data_ptr() != tied.data_ptr()


def test_weights_are_not_copied_if_the_last_ones_are_kept() -> None:
    stopping = stopper(keep_weights=False)
    stopping.add_validation({"rmse": 1.0}, {"w": torch.zeros(1)})
    assert stopping.best_weights is None
    assert stopping.best_epoch == 1


def test_missing_metric_has_no_best_epoch() -> None:
    stopping = stopper()
    stopping.add_validation({}, {"w": torch.zeros(1)})
    assert (stopping.best_epoch, stopping.best_weights, stopping.best_metrics) == (None, None, {})
