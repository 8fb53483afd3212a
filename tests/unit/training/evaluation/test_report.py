from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training.evaluation.baselines import BoostingProcess
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.evaluation.metrics import compute_metrics
from farandole.training.evaluation.report import Reporter, recent_loss, rows_digest
from farandole.training.result import TrainingResult
from farandole.training.timing import TimeSplit
from tests.support.made_data import ROWS, Made, Split, make_dataset

RESULT = TrainingResult(
    workers=1,
    steps=9,
    rows_per_s=1.0,
    weights_digest="abc",
    validation={},
    epochs=[{"log_loss": 0.5}, {"log_loss": 0.9}],
    best_epoch=1,
    weights_step=4,
    time_split=TimeSplit(),
    time_by_rank=(TimeSplit(),),
)


def reporter(job: Job, made: Made, sign: float, boosting: BoostingProcess | None = None) -> Reporter:
    """Return a reporter on outputs that are `sign` times the true answer."""
    dataset = Dataset(made.path)
    column, reader = dataset.manifest.columns.target, dataset.split("test")
    stored = np.concatenate([reader.block(number)["label"] for number in range(len(reader.block_rows))])
    if column.kind == "regression":
        label = torch.from_numpy(column.in_units(stored))
        outputs = sign * label[:, None]
    else:
        label = torch.from_numpy(stored)
        outputs = sign * torch.nn.functional.one_hot(label.long()).float()[:, -column.num_outputs :] - sign / 2
    metrics = compute_metrics(job.metrics, outputs, label, column)
    return Reporter(job, dataset, EvaluationResult(outputs, label, metrics), boosting)


@pytest.mark.parametrize(("kind", "name"), [("binary", "prior"), ("multiclass", "prior"), ("regression", "mean")])
def test_report_describes_the_test_split(
    make_job: Callable[..., Job], made: Callable[..., Made], kind: str, name: str
) -> None:
    job = make_job(kind)
    good, bad = (reporter(job, made(kind), sign) for sign in (1.0, -1.0))
    for each in (good, bad):
        each.describe(RESULT)
        report = each.report.to_dict()
        assert set(report["baselines"][name]) == set(job.metrics)
        assert set(report["intervals"]["test"]) <= set(job.metrics)
        if kind == "regression":
            assert report["baselines"][name]["r2"] == pytest.approx(0, abs=0.1)
        else:
            assert sum(figure["rows"] for figure in report["classes"].values()) == ROWS["test"]
            assert set(report["classes"]) == set(Dataset(made(kind).path).manifest.columns.target.classes)
    assert good.find_failure(9, [(9, 0.1)]) is None
    failure = bad.find_failure(9, [(9, 0.1)])
    assert failure is not None
    assert "it over-fits, or the test rows differ" in failure
    assert good.report.test_rows_digest == bad.report.test_rows_digest


def test_overfitting_becomes_a_note(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    each = reporter(make_job(), made(), 1.0)
    each.describe(RESULT)
    (note,) = each.report.notes
    assert "log_loss on validation rose from 0.5 after epoch 1 to 0.9 after epoch 2" in note


def test_boosting_that_failed_becomes_a_note(
    make_job: Callable[..., Job], made: Callable[..., Made], tmp_path: Path
) -> None:
    (tmp_path / "boosting.log").write_text("Traceback\nValueError: too few members\n")
    boosting = BoostingProcess(None, tmp_path / "missing.npz", tmp_path / "boosting.log")
    each = reporter(make_job(), made(), 1.0, boosting)
    each.add_boosting(0)
    assert each.report.notes == [
        "the comparison with boosting is missing: boosting failed: ValueError: too few members; see"
        f" {tmp_path / 'boosting.log'}"
    ]


def test_without_baselines_nothing_fails(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    each = reporter(make_job(train__baseline="off"), made(), -1.0)
    each.describe(RESULT)
    assert each.report.baselines == {}
    assert each.find_failure(9, [(9, 0.1)]) is None


def test_without_test_rows_only_notes_are_reported(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    each = Reporter(make_job(), Dataset(made().path), None, None)
    each.describe(RESULT)
    assert each.report.test_rows_digest is None
    assert each.find_failure(9, []) is None


def test_digest_identifies_the_test_rows(made: Callable[..., Made], tmp_path: Path) -> None:
    """Other features with the same labels are other rows; other training rows, which change scales, are not."""

    def edited(name: str, edit: Callable[[Split], None]) -> str:
        return rows_digest(Dataset(make_dataset(tmp_path / name, "binary", edit=edit).path), "test")

    def change_number(split: Split) -> None:
        split["test"].loc[5, "width"] = 30.0

    def change_category(split: Split) -> None:
        colours = split["test"]["colour"]
        split["test"].loc[5, "colour"] = "red" if colours[5] != "red" else "green"

    def change_label(split: Split) -> None:
        split["test"].loc[5, "label"] = not split["test"]["label"][5]

    def change_training_rows(split: Split) -> None:
        split["train"]["row"] *= 2
        split["train"].loc[:500, "colour"] = "blue"

    digest = rows_digest(Dataset(made().path), "test")
    assert len(digest) == 12
    assert rows_digest(Dataset(made().path), "validation") != digest
    for edit in (change_number, change_category, change_label):
        assert edited(edit.__name__, edit) != digest
    assert edited("unchanged", lambda split: None) == digest
    assert edited("trained", change_training_rows) == digest


def test_digest_of_numbers_depends_on_their_ranks(made: Callable[..., Made], tmp_path: Path) -> None:
    def scale(split: Split) -> None:
        for rows in split.values():
            rows["label"] = 3 * rows["label"] + 5

    def swap(split: Split) -> None:
        split["test"].loc[[3, 4], "label"] = split["test"]["label"][[4, 3]].to_numpy()

    digest = rows_digest(Dataset(made("regression").path), "test")
    for name, edit, is_equal in (("scaled", scale, True), ("swapped", swap, False)):
        dataset = Dataset(make_dataset(tmp_path / name, "regression", edit=edit).path)
        assert (rows_digest(dataset, "test") == digest) is is_equal


def test_recent_loss_is_the_mean_of_the_last_fifth_of_the_steps() -> None:
    assert recent_loss([]) is None
    assert recent_loss([(10, 2.0)]) == 2.0
    assert recent_loss([(50, 9.0), (98, 1.0), (100, 3.0)]) == pytest.approx((48 * 1.0 + 2 * 3.0) / 50)
