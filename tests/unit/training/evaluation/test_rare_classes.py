"""Splits with few rows of a class, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from farandole.events import Message
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training.build import make_early_stopping, make_plateau
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.evaluation.rare_classes import count_rows, explain_missing_metrics
from farandole.training.evaluation.report import Reporter
from farandole.training.result import TrainingResult
from farandole.training.timing import TimeSplit
from tests.support.made_data import ROWS, Made, Split, make_dataset
from tests.support.trainer_harness import Harness

MakeJob = Callable[..., Job]
RESULT = TrainingResult(1, 9, 1.0, "abc", {}, [], None, 9, TimeSplit(), (TimeSplit(),))


@pytest.fixture(scope="module")
def with_positives(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Made]:
    """Return the function that makes a dataset with few positive rows in validation and test."""
    known: dict[int, Made] = {}

    def make(positives: int) -> Made:
        def edit(split: Split) -> None:
            for name in ("validation", "test"):
                split[name]["label"] = split[name].index < positives

        if positives not in known:
            known[positives] = make_dataset(tmp_path_factory.mktemp("rare"), "binary", edit=edit)
        return known[positives]

    return make


def test_rows_are_counted_until_each_class_has_enough(made: Callable[..., Made]) -> None:
    dataset = Dataset(made().path)
    whole = count_rows(dataset, "train", 10_000)
    assert sum(whole.values()) == ROWS["train"]
    some = count_rows(dataset, "train", 1)
    assert min(some.values()) >= 1
    assert sum(some.values()) < ROWS["train"]


@pytest.mark.parametrize(
    ("positives", "train", "metric"),
    [
        (10, {}, "roc_auc"),
        (9, {}, "log_loss"),
        (9, {"early_stopping": {"patience": 1}}, "log_loss"),
        (9, {"early_stopping": {"metric": "roc_auc"}}, "roc_auc"),
        (9, {"class_weights": "balanced"}, "roc_auc"),
        (9, {"metrics": ["roc_auc", "accuracy"]}, "roc_auc"),
        (9, {"metrics": ["accuracy", "log_loss"]}, "accuracy"),
        (0, {}, "log_loss"),
        (0, {"early_stopping": {"metric": "average_precision", "direction": "max"}}, "log_loss"),
        (0, {"metrics": ["roc_auc", "accuracy"]}, "log_loss"),
    ],
)
def test_log_loss_chooses_the_epoch_where_a_ranking_is_coarse_or_undefined(
    make_job: MakeJob, with_positives: Callable[[int], Made], positives: int, train: dict[str, Any], metric: str
) -> None:
    stopping = make_early_stopping(make_job(train=train), Dataset(with_positives(positives).path), lambda event: None)
    assert stopping is not None
    assert stopping.metric == metric


def test_plateau_follows_the_log_loss_where_a_ranking_is_undefined(
    make_job: MakeJob, with_positives: Callable[[int], Made]
) -> None:
    plateau = make_plateau(
        make_job(train={"schedule": {"name": "plateau", "patience": 0, "factor": 0.5}}),
        Dataset(with_positives(0).path),
    )
    assert plateau is not None
    factors = []
    for loss in (0.5, 0.4, 0.45):
        plateau.add_validation({"log_loss": loss})
        factors.append(plateau.factor)
    assert factors == [1.0, 1.0, 0.5]


def test_training_on_a_validation_split_of_one_class_ends_by_the_log_loss(
    harness: Harness, make_job: MakeJob, with_positives: Callable[[int], Made]
) -> None:
    train = {"epochs": 6, "early_stopping": {"patience": 2}, "metrics": ["roc_auc"], "log_every_steps": 100}
    harness.fit(make_job(data__output=str(with_positives(0).path), train=train))
    assert harness.result is not None
    losses = [metrics["log_loss"] for metrics in harness.result.epochs]
    assert len(losses) >= 3
    assert harness.result.best_epoch == 1 + min(range(len(losses)), key=losses.__getitem__)
    assert not any("roc_auc" in event.text for event in harness.events if isinstance(event, Message))


@pytest.mark.parametrize(("logit", "is_worse"), [(3.0, True), (-9.0, False)])
def test_model_is_judged_by_the_log_loss_where_a_ranking_is_undefined(
    make_job: MakeJob, with_positives: Callable[[int], Made], logit: float, is_worse: bool
) -> None:
    job, dataset = make_job(train__baseline="trivial"), Dataset(with_positives(0).path)
    label = torch.zeros(ROWS["test"], dtype=torch.int32)
    reporter = Reporter(job, dataset, EvaluationResult(torch.full((len(label), 1), logit), label, {}), None)
    reporter.describe(RESULT)
    failure = reporter.find_failure(500, [(500, 0.1)])
    assert (failure is not None) == is_worse
    assert len([note for note in reporter.report.notes if "has no row of class" in note]) == 2
    if failure is not None:
        assert failure.startswith("on the test rows its log_loss is 3.049, and")


def test_metrics_of_a_split_of_one_class_are_explained(
    make_job: MakeJob, made: Callable[..., Made], with_positives: Callable[[int], Made]
) -> None:
    dataset = Dataset(with_positives(0).path)
    (positive,) = dataset.manifest.columns.target.classes[1:]
    assert explain_missing_metrics(make_job(train__metrics=["roc_auc", "accuracy"]), dataset, "test") == (
        f"the test split has no row of class {positive}, so roc_auc was not measured there"
    )
    text = explain_missing_metrics(make_job(), dataset, "validation")
    assert text is not None
    assert text.startswith("the validation split has no row of class")
    assert explain_missing_metrics(make_job(), Dataset(made().path), "test") is None
    assert explain_missing_metrics(make_job(train__metrics=["accuracy"]), dataset, "test") is None
    assert explain_missing_metrics(make_job("regression"), Dataset(made("regression").path), "test") is None
