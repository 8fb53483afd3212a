from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.spec import Checkpoint, Job, parse_job

DATA = {
    "sources": {"s": {"path": "s.csv"}},
    "features": {"a": {"kind": "numeric"}},
    "label": {"column": "y", "kind": "regression"},
}


def job(**checkpoint: Any) -> Job:
    return parse_job({"name": "j", "data": DATA, "train": {"checkpoint": checkpoint}}, origin="job.yaml")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"every_epochs": 0}, "every_epochs"),
        ({"every_steps": 0}, "every_steps"),
        ({"every_minutes": 0}, "every_minutes"),
        ({"keep": 0}, "keep"),
        ({"keep_best": -1}, "keep_best"),
        ({"best_metric": "rmse"}, "best_metric without effect: set keep_best"),
        ({"best_metric": "rmse", "best_is": "lowest"}, "best_metric and best_is without effect"),
        ({"directory": "package://x/y"}, "packages are read-only"),
        ({"directory": "s3://key:secret@bucket/x"}, "contains credentials"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Checkpoint.model_validate(fields)
    assert problem in str(caught.value)


def test_a_metric_that_is_not_measured_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"train\.checkpoint\.best_metric: rsme is not measured; did you mean rmse\?"):
        job(keep_best=1, best_metric="rsme")
    assert job(keep_best=1, best_metric="r2").train.checkpoint.best_metric == "r2"


@pytest.mark.parametrize(
    ("metric", "best_is", "lowest"),
    [("rmse", "auto", True), ("roc_auc", "auto", False), ("rmse", "highest", False), ("mine", "lowest", True)],
)
def test_the_best_is_the_lowest_of_an_error(metric: str, best_is: str, lowest: bool) -> None:
    assert Checkpoint.model_validate({"keep_best": 1, "best_is": best_is}).is_lower_better(metric) is lowest


def test_the_directory_may_be_a_path_beside_the_job_file_or_a_uri() -> None:
    assert str(job(directory="there").train.checkpoint.directory).endswith("/there")
    assert job(directory="s3://bucket/there").train.checkpoint.directory == "s3://bucket/there"
