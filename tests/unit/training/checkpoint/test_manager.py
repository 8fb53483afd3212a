from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from farandole.training.checkpoint.backends import DirectoryBackend
from farandole.training.checkpoint.manager import (
    BestMetric,
    CheckpointManager,
    expired_checkpoints,
    list_differences,
    summarize,
)

MINE = {"dataset": "d1", "model": {"options": {"hidden": [128, 64]}}}


def make_manager(directory: Path, identity: Any = MINE, **options: Any) -> CheckpointManager:
    return CheckpointManager(DirectoryBackend(directory), identity, **{"keep": 2, **options})


def put(manager: CheckpointManager, step: int, **meta: Any) -> str:
    return manager.put({"model": {"w": torch.full((2,), float(step))}}, {"step": step, **meta})


def newest(manager: CheckpointManager) -> tuple[int | None, list[str]]:
    """Return the step from which training would resume, and the warnings."""
    warnings: list[str] = []
    found = manager.load_newest(warnings.append, lambda state: None)
    return (found.meta["step"] if found else None), warnings


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_empty_directory_has_no_newest_checkpoint(tmp_path: Path) -> None:
    assert newest(make_manager(tmp_path / "none")) == (None, [])


def test_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        put(make_manager(tmp_path), step)  # also when each is put by another process
    assert names(tmp_path) == ["step-000000100", "step-000001000"]
    assert newest(make_manager(tmp_path)) == (1000, [])


def test_step_saved_again_replaces_the_old_checkpoint(tmp_path: Path) -> None:
    put(make_manager(tmp_path), 4)
    put(make_manager(tmp_path), 5)
    put(make_manager(tmp_path), 5)
    assert names(tmp_path) == ["step-000000004", "step-000000005-2"]
    assert newest(make_manager(tmp_path)) == (5, [])


def test_best_checkpoints_are_kept_besides_the_newest(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, keep=1, keep_best=2, best=BestMetric("log_loss", is_lower_better=True))
    for step, loss in enumerate([0.5, 0.2, 0.3, math.nan, 0.4], start=1):
        put(manager, step, metrics={"log_loss": loss})
    put(manager, 6, metrics={})
    assert names(tmp_path) == ["step-000000002", "step-000000003", "step-000000006"]
    manager = make_manager(tmp_path, keep=1, keep_best=1, best=BestMetric("log_loss", is_lower_better=True))
    put(manager, 7, metrics={"log_loss": 0.1})
    assert names(tmp_path) == ["step-000000007"]


@pytest.mark.parametrize(("lowest", "kept"), [(True, {"c", "a"}), (False, {"c", "b"})])
def test_best_checkpoint_is_the_newest_of_equal_ones(lowest: bool, kept: set[str]) -> None:
    own: dict[str, Any] = {
        "c": {"metrics": {"other": 9.0}},
        "b": {"metrics": {"m": 2.0}},
        "a": {"metrics": {"m": 1.0}},
        "0": {"metrics": {"m": 1.0 if lowest else 2.0}},
    }
    assert set(own) - set(expired_checkpoints(own, 1, 1, BestMetric("m", lowest))) == kept


def test_damaged_checkpoint_is_skipped_with_a_warning(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    put(manager, 5)
    path = tmp_path / put(manager, 6)
    (path / "state.pt").write_bytes((path / "state.pt").read_bytes()[:-1])
    step, (warning,) = newest(manager)
    assert step == 5
    assert warning.startswith(f"{path}: state.pt has ")
    assert warning.endswith("; skipped")


def test_each_damaged_checkpoint_is_named_if_all_are_damaged(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    for step in (5, 6):
        (tmp_path / put(manager, step) / "meta.json").unlink()
    found, warnings = newest(manager)
    assert found is None
    assert ["step-000000006" in warnings[0], "step-000000005" in warnings[1]] == [True, True]


def test_damaged_checkpoint_of_a_later_step_does_not_expire_a_new_one(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, keep=1)
    put(make_manager(tmp_path, keep=9), 5)
    (tmp_path / put(make_manager(tmp_path, keep=9), 60) / "state.pt").write_bytes(b"x")
    assert newest(manager)[0] == 5
    put(manager, 10)
    assert names(tmp_path) == ["step-000000010", "step-000000060"]
    assert newest(manager)[0] == 10


def test_checkpoint_of_another_model_is_skipped_with_the_differing_field(tmp_path: Path) -> None:
    put(make_manager(tmp_path), 5)
    other = {"dataset": "d1", "model": {"options": {"hidden": [256]}}}
    path = tmp_path / put(make_manager(tmp_path, other), 6)
    step, (warning,) = newest(make_manager(tmp_path))
    assert step == 5
    assert warning == (
        f"{path}: belongs to another dataset, model or training setting"
        " (model.options.hidden was [256], now [128, 64]); skipped"
    )


def test_checkpoint_whose_weights_do_not_fit_is_skipped(tmp_path: Path) -> None:
    put(make_manager(tmp_path), 5)
    put(make_manager(tmp_path), 6)
    warnings: list[str] = []
    found = make_manager(tmp_path).load_newest(
        warnings.append, lambda state: "too new" if state["model"]["w"][0] > 5 else None
    )
    assert found is not None
    assert found.meta["step"] == 5
    assert "belongs to another model (too new); skipped" in warnings[0]


def test_checkpoints_of_another_training_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    for step in (1000, 2000):
        put(make_manager(tmp_path, "other"), step)
    for step in (10, 20, 30):
        put(make_manager(tmp_path), step)
    assert newest(make_manager(tmp_path))[0] == 30
    assert names(tmp_path) == [f"step-{step:09d}" for step in (20, 30, 1000, 2000)]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        (
            {"model": {"options": {"hidden": [128, 64]}}},
            {"model": {"options": {"hidden": [256]}}},
            ["model.options.hidden was [128, 64], now [256]"],
        ),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": None}}, ["a.c was missing, now null"]),
        ({"a": {"b": {}}}, {"a": {}}, ["a was missing, now {}", "a.b was {}, now missing"]),
        ({"a": "x" * 100}, {"a": "y"}, [f"a was {'x' * 60}…, now y"]),
        ("one", "another", ["it was one, now another"]),
        ({"a": True}, {"a": False}, ["a was true, now false"]),
    ],
)
def test_differing_fields_are_listed(before: Any, now: Any, expected: list[str]) -> None:
    assert list_differences(before, now) == expected


def test_only_the_first_differences_are_listed() -> None:
    assert summarize(["a", "b"]) == "a; b"
    assert summarize(list("abcdefg")) == "a; b; c; d; e; and 2 more"
