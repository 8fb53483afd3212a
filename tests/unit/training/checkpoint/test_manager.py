from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from farandole.training.checkpoint.backends import DirectoryBackend
from farandole.training.checkpoint.manager import BestMetric, CheckpointManager, expired_checkpoints

MINE = {"dataset": "d1", "model": {"options": {"hidden": [128, 64]}}}


def shelf(directory: Path, identity: Any = MINE, **options: Any) -> CheckpointManager:
    return CheckpointManager(DirectoryBackend(directory), identity, **{"keep": 2, **options})


def put(on: CheckpointManager, step: int, **meta: Any) -> str:
    return on.put({"model": {"w": torch.full((2,), float(step))}}, {"step": step, **meta})


def newest(on: CheckpointManager) -> tuple[int | None, list[str]]:
    """The step that would be resumed, and the warnings."""
    warnings: list[str] = []
    found = on.newest(warnings.append, lambda state: None)
    return (found.meta["step"] if found else None), warnings


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert newest(shelf(tmp_path / "none")) == (None, [])


def test_the_newest_ones_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        put(shelf(tmp_path), step)  # also when each is put by another process
    assert names(tmp_path) == ["step-000000100", "step-000001000"]
    assert newest(shelf(tmp_path)) == (1000, [])


def test_a_step_that_is_saved_again_replaces_the_old_one(tmp_path: Path) -> None:
    put(shelf(tmp_path), 4)
    put(shelf(tmp_path), 5)
    put(shelf(tmp_path), 5)
    assert names(tmp_path) == ["step-000000004", "step-000000005-2"]
    assert newest(shelf(tmp_path)) == (5, [])


def test_the_best_are_kept_beside_the_newest(tmp_path: Path) -> None:
    on = shelf(tmp_path, keep=1, keep_best=2, best=BestMetric("log_loss", lowest=True))
    for step, loss in enumerate([0.5, 0.2, 0.3, math.nan, 0.4], start=1):
        put(on, step, metrics={"log_loss": loss})
    put(on, 6, metrics={})
    assert names(tmp_path) == ["step-000000002", "step-000000003", "step-000000006"]
    on = shelf(tmp_path, keep=1, keep_best=1, best=BestMetric("log_loss", lowest=True))
    put(on, 7, metrics={"log_loss": 0.1})
    assert names(tmp_path) == ["step-000000007"]


@pytest.mark.parametrize(("lowest", "kept"), [(True, {"c", "a"}), (False, {"c", "b"})])
def test_best_is_the_lowest_or_the_highest_and_of_equal_ones_the_newest(lowest: bool, kept: set[str]) -> None:
    ours: dict[str, Any] = {
        "c": {"metrics": {"other": 9.0}},
        "b": {"metrics": {"m": 2.0}},
        "a": {"metrics": {"m": 1.0}},
        "0": {"metrics": {"m": 1.0 if lowest else 2.0}},
    }
    assert set(ours) - set(expired_checkpoints(ours, 1, 1, BestMetric("m", lowest))) == kept


def test_a_damaged_one_is_passed_over_with_a_warning_that_names_it(tmp_path: Path) -> None:
    on = shelf(tmp_path)
    put(on, 5)
    place = tmp_path / put(on, 6)
    (place / "state.pt").write_bytes((place / "state.pt").read_bytes()[:-1])
    step, (warning,) = newest(on)
    assert step == 5
    assert warning.startswith(f"{place}: state.pt has ")
    assert warning.endswith("; it is passed over")


def test_with_all_damaged_there_is_none_and_each_is_named(tmp_path: Path) -> None:
    on = shelf(tmp_path)
    for step in (5, 6):
        (tmp_path / put(on, step) / "meta.json").unlink()
    step, warnings = newest(on)
    assert step is None
    assert ["step-000000006" in warnings[0], "step-000000005" in warnings[1]] == [True, True]


def test_a_damaged_one_of_a_later_step_does_not_push_out_what_is_saved_now(tmp_path: Path) -> None:
    on = shelf(tmp_path, keep=1)
    put(shelf(tmp_path, keep=9), 5)
    (tmp_path / put(shelf(tmp_path, keep=9), 60) / "state.pt").write_bytes(b"x")
    assert newest(on)[0] == 5
    put(on, 10)
    assert names(tmp_path) == ["step-000000010", "step-000000060"]
    assert newest(on)[0] == 10


def test_one_of_another_model_is_passed_over_and_the_field_is_named(tmp_path: Path) -> None:
    put(shelf(tmp_path), 5)
    other = {"dataset": "d1", "model": {"options": {"hidden": [256]}}}
    place = tmp_path / put(shelf(tmp_path, other), 6)
    step, (warning,) = newest(shelf(tmp_path))
    assert step == 5
    assert warning == (
        f"{place}: belongs to another dataset, model or way of training"
        " (model.options.hidden was [256], now [128, 64]); it is passed over"
    )


def test_one_whose_weights_do_not_fit_is_passed_over(tmp_path: Path) -> None:
    put(shelf(tmp_path), 5)
    put(shelf(tmp_path), 6)
    warnings: list[str] = []
    found = shelf(tmp_path).newest(warnings.append, lambda state: "too new" if state["model"]["w"][0] > 5 else None)
    assert found is not None
    assert found.meta["step"] == 5
    assert "belongs to another model (too new); it is passed over" in warnings[0]


def test_those_of_another_training_neither_count_nor_are_removed(tmp_path: Path) -> None:
    for step in (1000, 2000):
        put(shelf(tmp_path, "other"), step)
    for step in (10, 20, 30):
        put(shelf(tmp_path), step)
    assert newest(shelf(tmp_path))[0] == 30
    assert names(tmp_path) == [f"step-{step:09d}" for step in (20, 30, 1000, 2000)]
