from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.errors import SpecError
from farandole.spec import Dimension, Job, parse_job

RATE = "train.optimizer.learning_rate"


def job(space: dict[str, Any], **fields: Any) -> Job:
    raw: dict[str, Any] = {
        "name": "small",
        "data": {
            "sources": {"a": {"path": "/a.csv", "columns": {"x": "double", "y": "boolean"}}},
            "features": {"x": {"kind": "numeric"}},
            "label": {"column": "y", "kind": "binary"},
        },
        "model": {"builder": "network:build", "options": {"hidden": [64], "depth": 2}},
        "sweep": {"space": space, **fields},
    }
    return parse_job(raw, folder=Path("/folder"))


@pytest.mark.parametrize(
    ("space", "fields", "text"),
    [
        (
            {"train.epoch": {"low": 1, "high": 2}},
            {},
            "sweep.space.train.epoch: 1 is rejected: train.epoch: unknown key",
        ),
        ({RATE: {"low": 1, "high": 0.1}}, {}, "low: 1 is larger than high: 0.1; swap them"),
        ({RATE: {"low": 0, "high": 0.1, "log": True}}, {}, "low: 0 has no logarithm; use a `low` above 0"),
        ({RATE: {"low": 0, "high": 0.1}}, {}, f"sweep.space.{RATE}: 0 is rejected: {RATE}: 0"),
        ({RATE: {"low": 0.1}}, {}, "write `low` and `high`, or `choices`"),
        (
            {RATE: {"choices": [0.1], "low": 0.1}},
            {},
            "`choices` already lists all values; remove low, high, step and log",
        ),
        ({RATE: {"choices": [0.1, 0.1]}}, {}, "a value is listed twice"),
        ({RATE: {"low": 0.1, "high": 0.2, "step": 0}}, {}, "step: 0: must be above 0"),
        ({"train.epochs": {"low": 1, "high": 9, "step": 0.5}}, {}, "step: 0.5: between integers"),
        ({"train.epochs": {"low": 1, "high": 9, "step": 2, "log": True}}, {}, "step has no effect on a logarithmic"),
        (
            {"train.optimizer.name": {"choices": ["adam", "sgdd"]}},
            {},
            "'sgdd' is rejected: train.optimizer.name",
        ),
        ({"data.split.seed": {"low": 1, "high": 2}}, {}, "only fields of model, train, resources can vary"),
        ({"train": {"choices": [{}]}}, {}, "train: only fields of model, train, resources can vary"),
        ({"train.epochs.x": {"choices": [1]}}, {}, "sweep.space.train.epochs.x: train.epochs is the value 'auto'"),
        ({RATE: {"low": 0.1, "high": 0.2}}, {"sampler": "grid"}, "has infinitely many values for a grid; set `step`"),
        ({RATE: {"low": 0.1, "high": 0.2}}, {"metric": "f1"}, "sweep.metric: f1 is not measured; use roc_auc"),
        ({RATE: {"low": 0.1, "high": 0.2}}, {"trails": 3}, "sweep.trails: unknown key; did you mean `trials`?"),
        ({}, {}, "sweep.space"),
    ],
)
def test_invalid_space_is_rejected_before_anything_starts(
    space: dict[str, Any], fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(SpecError) as caught:
        job(space, **fields)
    assert text in str(caught.value)
    assert str(caught.value).startswith("job: sweep")


def test_grid_has_all_points_and_at_most_that_many_trials() -> None:
    space = {"train.epochs": {"low": 1, "high": 5, "step": 2}, RATE: {"low": 0.1, "high": 0.3, "step": 0.1}}
    sweep = job(space, sampler="grid").sweep
    assert sweep is not None
    assert sweep.num_trials == len(sweep.points) == 9
    assert sweep.points[1] == {"train.epochs": 1, RATE: pytest.approx(0.2)}
    assert [point["train.epochs"] for point in sweep.points[::3]] == [1, 3, 5]


def test_direction_follows_the_metric_unless_declared() -> None:
    space = {RATE: {"low": 0.1, "high": 0.2}}
    for metric, fields, expected in (
        ("roc_auc", {}, "maximize"),
        ("log_loss", {}, "minimize"),
        ("log_loss", {"direction": "maximize"}, "maximize"),
    ):
        sweep = job(space, metric=metric, **fields).sweep
        assert sweep is not None
        assert sweep.goal(metric) == expected


@pytest.mark.parametrize(
    ("dimension", "shown"),
    [
        (Dimension(low=1e-4, high=0.1, log=True), "0.0001 to 0.1 (log)"),
        (Dimension(low=1, high=9, step=2), "1 to 9 by 2"),
        (Dimension(choices=([64], [128, 64])), "[64] | [128, 64]"),
    ],
)
def test_dimension_is_shown_as_written(dimension: Dimension, shown: str) -> None:
    assert str(dimension) == shown
