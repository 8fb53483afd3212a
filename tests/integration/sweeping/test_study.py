"""The draws of whole sweeps, without any training."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.spec import Sweep
from farandole.sweeping.study import Study
from tests.support.studies import SPACE, run_study, sweep_spec


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_values_are_in_their_space_and_follow_from_the_seed(tmp_path: Path, sampler: str) -> None:
    draws = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / place).mkdir()
        study = Study(tmp_path / place, sweep_spec(sampler=sampler, trials=8, seed=seed), "maximize")
        draws.append(run_study(study, 100))
    assert len(draws[0]) == 8
    assert draws[0] == draws[1] != draws[2]
    for values in draws[0]:
        assert 1e-4 <= values["train.optimizer.learning_rate"] <= 1.0
        assert values["model.options.hidden"] in ([64], [128, 64])
        assert values["train.epochs"] in (1, 3, 5, 7, 9)
    assert len({values["train.optimizer.learning_rate"] for values in draws[0]}) == 8


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_killed_sweep_draws_what_it_would_have_drawn(tmp_path: Path, sampler: str) -> None:
    space = {**SPACE, "train.optimizer.learning_rate": {"choices": [0.1, 0.01, 0.001]}}
    spec = Sweep.model_validate({"space": space, "sampler": sampler, "trials": 7, "startup_trials": 2})
    for place in ("whole", "killed"):
        (tmp_path / place).mkdir()
    undisturbed = run_study(Study(tmp_path / "whole", spec, "maximize"), 100)
    study = Study(tmp_path / "killed", spec, "maximize")
    drawn = run_study(study, 3)
    lost = study.ask()
    assert lost is not None
    del study
    again = Study(tmp_path / "killed", spec, "maximize")
    rest = run_study(again, 100)
    assert rest[0] == lost[1]
    assert drawn + rest == undisturbed
    assert [trial.number for trial in again.trials] == [0, 1, 2, 4, 5, 6, 7]
    assert again.ask() is None


def test_most_important_field_is_found(tmp_path: Path) -> None:
    study = Study(tmp_path, sweep_spec(trials=30, sampler="random"), "maximize")
    assert study.importances() == {}
    run_study(study, 100)
    shares = study.importances()
    assert next(iter(shares)) == "train.optimizer.learning_rate"
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["train.optimizer.learning_rate"] > 0.8
