"""The draws of a sweep, without any training."""

from __future__ import annotations

from pathlib import Path

from farandole.sweeping.study import Study
from farandole.sweeping.trial import State
from tests.support.studies import ended_trial, run_study, sweep_spec


def test_longer_sweep_continues_a_finished_one(tmp_path: Path) -> None:
    run_study(Study(tmp_path, sweep_spec(trials=3), "maximize"), 100)
    assert len(run_study(Study(tmp_path, sweep_spec(trials=5), "maximize"), 100)) == 2


def test_a_sweep_in_a_folder_of_any_name_is_stored_and_continued(tmp_path: Path) -> None:
    folder = tmp_path / "per%20cent #1? ü+"
    folder.mkdir()
    run_study(Study(folder, sweep_spec(trials=2), "maximize"), 100)
    assert len(run_study(Study(folder, sweep_spec(trials=3), "maximize"), 100)) == 1
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_best_trial_is_the_best_complete_one(tmp_path: Path) -> None:
    for direction, expected in (("maximize", 1), ("minimize", 0)):
        (tmp_path / direction).mkdir()
        study = Study(tmp_path / direction, sweep_spec(trials=5), direction)  # type: ignore[arg-type]
        ends: list[tuple[float | None, State]] = [
            (0.5, "complete"),
            (0.7, "complete"),
            (0.9, "pruned"),
            (None, "failed"),
        ]
        for value, state in ends:
            asked = study.ask()
            assert asked is not None
            study.record(ended_trial(asked[0], asked[1], value, state))
        assert study.best is not None
        assert study.best.number == expected
        assert [trial.state for trial in study.trials] == ["complete", "complete", "pruned", "failed"]
        assert study.trials[3].reason == "broke"


def test_median_of_the_others_ends_a_trial_once_enough_have_ended(tmp_path: Path) -> None:
    study = Study(tmp_path, sweep_spec(trials=9, startup_trials=3), "maximize")
    hopeless = []
    for value in (0.8, 0.1, 0.9, 0.5, 0.85):
        asked = study.ask()
        assert asked is not None
        hopeless.append(study.report(asked[0], 1, value))
        study.record(ended_trial(asked[0], asked[1], value))
    assert hopeless == [False, False, False, True, False]
