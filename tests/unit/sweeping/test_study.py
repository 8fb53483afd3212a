"""The draws of a sweep, without any training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from farandole.spec import Sweep
from farandole.sweeping.study import Study
from farandole.sweeping.trial import State, Trial

SPACE = {
    "train.optimizer.learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
    "model.options.hidden": {"choices": [[64], [128, 64]]},
    "train.epochs": {"low": 1, "high": 9, "step": 2},
}


def _spec(**fields: Any) -> Sweep:
    return Sweep.model_validate({"space": SPACE, **fields})


def _ended(number: int, values: dict[str, Any], value: float | None, state: State = "complete") -> Trial:
    return Trial(number, state, value, values, f"job-{number}", None, 1.0, None if value is not None else "broke")


def _value(values: dict[str, Any]) -> float:
    """Best at a learning rate of 0.01."""
    return float(-abs(math.log10(values["train.optimizer.learning_rate"]) + 2) + 0.01 * values["train.epochs"])


def _run(study: Study, trials: int) -> list[dict[str, Any]]:
    drawn = []
    for _ in range(trials):
        asked = study.ask()
        if asked is None:
            break
        number, values = asked
        drawn.append(values)
        study.record(_ended(number, values, _value(values)))
    return drawn


def test_longer_sweep_continues_a_finished_one(tmp_path: Path) -> None:
    _run(Study(tmp_path, _spec(trials=3), "maximize"), 100)
    assert len(_run(Study(tmp_path, _spec(trials=5), "maximize"), 100)) == 2


def test_best_trial_is_the_best_complete_one(tmp_path: Path) -> None:
    for direction, expected in (("maximize", 1), ("minimize", 0)):
        (tmp_path / direction).mkdir()
        study = Study(tmp_path / direction, _spec(trials=5), direction)  # type: ignore[arg-type]
        ends: list[tuple[float | None, State]] = [
            (0.5, "complete"),
            (0.7, "complete"),
            (0.9, "pruned"),
            (None, "failed"),
        ]
        for value, state in ends:
            asked = study.ask()
            assert asked is not None
            study.record(_ended(asked[0], asked[1], value, state))
        assert study.best is not None
        assert study.best.number == expected
        assert [trial.state for trial in study.trials] == ["complete", "complete", "pruned", "failed"]
        assert study.trials[3].reason == "broke"


def test_median_of_the_others_ends_a_trial_once_enough_have_ended(tmp_path: Path) -> None:
    study = Study(tmp_path, _spec(trials=9, startup_trials=3), "maximize")
    hopeless = []
    for value in (0.8, 0.1, 0.9, 0.5, 0.85):
        asked = study.ask()
        assert asked is not None
        hopeless.append(study.report(asked[0], 1, value))
        study.record(_ended(asked[0], asked[1], value))
    assert hopeless == [False, False, False, True, False]
