"""A study over three fields whose best learning rate is 0.01, without any training."""

from __future__ import annotations

import math
from typing import Any

from farandole.spec import Sweep
from farandole.sweeping.study import Study
from farandole.sweeping.trial import State, Trial

SPACE: dict[str, Any] = {
    "train.optimizer.learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
    "model.options.hidden": {"choices": [[64], [128, 64]]},
    "train.epochs": {"low": 1, "high": 9, "step": 2},
}


def sweep_spec(**fields: Any) -> Sweep:
    """Return a sweep over `SPACE`."""
    return Sweep.model_validate({"space": SPACE, **fields})


def ended_trial(number: int, values: dict[str, Any], value: float | None, state: State = "complete") -> Trial:
    """Return a trial that has ended with a value, or broke."""
    return Trial(number, state, value, values, f"job-{number}", None, 1.0, None if value is not None else "broke")


def value_of(values: dict[str, Any]) -> float:
    """Return the value of a trial, best at a learning rate of 0.01."""
    return float(-abs(math.log10(values["train.optimizer.learning_rate"]) + 2) + 0.01 * values["train.epochs"])


def run_study(study: Study, trials: int) -> list[dict[str, Any]]:
    """Run up to `trials` trials and return the values that were drawn."""
    drawn = []
    for _ in range(trials):
        asked = study.ask()
        if asked is None:
            break
        number, values = asked
        drawn.append(values)
        study.record(ended_trial(number, values, value_of(values)))
    return drawn
