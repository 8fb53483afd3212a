"""Metrics of parts of a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from farandole.bundle.slices import MIN_ROWS, measure, measure_slices
from tests.support.bundles import fitted

NAMES = ("accuracy", "log_loss")


def _split(rows: int = 400) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return features, outputs and label of a split in which every row of the colour with id 3 is wrong."""
    random = np.random.default_rng(0)
    ids = np.repeat([2, 3, 4, 0], [150, 150, 80, 20]).astype(np.int32)[:, None]
    numbers = np.column_stack([random.standard_normal(rows), np.zeros(rows)]).astype(np.float32)
    label = random.integers(0, 2, rows)
    right = np.where(label == 1, 2.0, -2.0)
    return {"dense": numbers, "categorical": ids}, np.where(ids[:, 0] == 3, -right, right)[:, None], label


def _slices(replicates: int = 50) -> list[dict[str, Any]]:
    preprocessing = fitted()
    features, outputs, label = _split()
    names = {group.kind: group.name for group in preprocessing.schema.groups}
    renamed = {names["numbers"]: features["dense"], names["ids"]: features["categorical"]}
    return measure_slices(NAMES, renamed, outputs, label, preprocessing, replicates)


def test_the_worst_part_comes_first_and_small_parts_are_left_out() -> None:
    preprocessing = fitted()
    vocabulary = preprocessing.transforms[1].vocabulary  # type: ignore[attr-defined]
    found = _slices()
    assert found[0]["part"] == f"colour = {vocabulary[1]}"
    assert found[0]["rows"] == 150
    assert found[0]["metrics"]["accuracy"]["value"] == 0.0
    parts = [entry["part"] for entry in found]
    assert f"colour = {vocabulary[0]}" in parts
    assert "colour unknown" not in parts
    assert [entry["rows"] for entry in found if entry["feature"] == "size"] == [100] * 4
    assert min(entry["rows"] for entry in found) >= MIN_ROWS


def test_the_intervals_are_reproducible_and_contain_the_value() -> None:
    first, second = _slices(), _slices()
    assert first == second
    for entry in first:
        for metric in entry["metrics"].values():
            low, high = metric["interval"]
            assert low - 1e-9 <= metric["value"] <= high + 1e-9


def test_more_replicates_move_the_interval_only_a_little() -> None:
    _, outputs, label = _split()
    column = fitted().schema.target
    few, many = (measure(("accuracy",), outputs, label, column, count)["accuracy"] for count in (100, 1000))
    assert few["value"] == many["value"]
    assert few["interval"] == pytest.approx(many["interval"], abs=0.02)
