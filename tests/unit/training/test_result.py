from __future__ import annotations

import dataclasses

import pytest

from farandole.training.result import TrainingResult
from farandole.training.timing import TimeSplit

RESULT = TrainingResult(
    workers=2,
    steps=9,
    rows_per_s=1234.56,
    weights_digest="abc",
    validation={"rmse": 1.5},
    epochs=[{"rmse": 1.5}, {"rmse": 1.75}],
    best_epoch=1,
    weights_step=4,
    time_split=TimeSplit(compute_s=8.00049),
    time_by_rank=(TimeSplit(compute_s=8.00049), TimeSplit(compute_s=5.0)),
)


def test_document_has_its_documented_keys_and_rounded_numbers() -> None:
    document = dataclasses.replace(RESULT, test={"rmse": 2.5}, mlflow_run_id="run").to_dict()
    assert list(document) == [
        "mlflow_run_id", "workers", "steps", "rows_per_s", "weights_digest", "metrics", "epochs", "best_epoch",
        "weights_step", "refit_steps", "evaluation", "time_split", "time_by_rank", "straggler",
    ]  # fmt: skip
    assert document["mlflow_run_id"] == "run"
    assert document["rows_per_s"] == 1234.6
    assert (document["epochs"], document["best_epoch"], document["weights_step"]) == (2, 1, 4)
    assert document["refit_steps"] == 0
    assert document["metrics"] == {"test": {"rmse": 2.5}, "validation": {"rmse": 1.5}}
    assert document["time_split"]["compute_s"] == document["time_by_rank"][0]["compute_s"] == 8.0
    assert document["straggler"]["rank"] == 0


def test_result_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESULT.steps = 10  # type: ignore[misc]
