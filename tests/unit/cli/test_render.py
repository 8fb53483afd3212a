"""The tables and documents that commands print."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from farandole.backends.protocol import JobStatus, SubmittedJob
from farandole.cli.doctor import Finding
from farandole.cli.render import show_findings, show_plan, show_scaling, show_sweep, show_synced, show_training
from farandole.cli.render_jobs import show_jobs, show_status, show_submitted
from farandole.launch import DatasetSummary, TrainedModel, TrainingSummary
from farandole.planning import EvaluateStep, Plan, PrepareStep, RegisterStep, SweepStep, TrainStep
from farandole.spec import parse_job
from farandole.sweeping.sweep import SweepResult
from farandole.sweeping.trial import Trial
from farandole.tracking.sync import SyncResult

JOB = parse_job(
    {
        "name": "small",
        "data": {
            "sources": {"rows": {"path": "rows.csv", "columns": {"size": "double", "late": "int"}}},
            "features": {"size": {"kind": "numeric"}},
            "label": {"column": "late", "kind": "binary"},
        },
        "model": {"builder": "farandole.models.mlp:build"},
    },
    folder=Path(),
)
SPLIT = {"data_wait_s": 0.5, "compute_s": 8.0, "all_reduce_wait_s": 1.0}
SUMMARY = TrainingSummary(
    mlflow_run_id="abc",
    workers=2,
    steps=40,
    rows_per_s=1234.5,
    weights_digest="0" * 64,
    metrics={"test": {"rmse": 17.73078727722168, "roc_auc": 0.81}, "validation": {}},
    time_split=SPLIT,
    time_by_rank=[SPLIT, SPLIT | {"compute_s": 12.25}],
    straggler=None,
    attempts=2,
    recoveries=[],
)
DATASET = DatasetSummary("/data/small", "1" * 64, {"train": 800, "test": 200}, reused=True)
Capture = pytest.CaptureFixture[str]
GOLDEN = Path(__file__).parent / "golden"
"""Documents that `--json` prints: scripts of users rely on these documents, so they never change."""


def _training(capsys: Capture, **changes: object) -> str:
    summary = replace(SUMMARY, **changes)  # type: ignore[arg-type]
    trained = TrainedModel("small", "small-1", Path("/jobs/small-1"), DATASET, summary, "models:/small/3")
    show_training(Path("job.yaml"), JOB, trained, as_json=False)
    return _words(capsys)


def _words(capsys: Capture) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_teacher_has_a_column_beside_its_student(capsys: Capture) -> None:
    text = _training(capsys, evaluation={"baselines": {"teacher": {"roc_auc": 0.854}, "prior": {"roc_auc": 0.5}}})
    assert "metric test teacher baseline" in text
    assert "roc_auc 0.81 0.854 0.5" in text
    assert "compared with teacher: the model of train.distill baseline: the frequencies of the classes" in text


def test_training_is_shown_with_rounded_numbers_and_where_the_time_went(capsys: Capture) -> None:
    text = _training(capsys)
    assert "small: models:/small/3" in text
    assert "rmse 17.73 roc_auc 0.81 rows 800 train" in text
    assert "1,230 rows/s (2 workers, 40 steps, attempt 2)" in text
    assert "time data wait 0.5 s, compute 8.0 s, all-reduce wait 1.0 s" in text
    assert "1: data wait 0.5 s, compute 12 s" in text
    assert "shards /data/small (reused)" in text
    assert "straggler" not in text


def test_large_metrics_are_shown_without_an_exponent(capsys: Capture) -> None:
    text = _training(capsys, metrics={"test": {"rmse": 25_431.7}, "validation": {}})
    assert "rmse 25,432 " in text


def test_r2_of_the_mean_is_shown_as_0(capsys: Capture) -> None:
    scores = {"test": {"r2": 0.81, "log_loss": 2.152e-05}, "validation": {}}
    text = _training(capsys, metrics=scores, evaluation={"baselines": {"mean": {"r2": -9.628e-06, "log_loss": 1.0}}})
    assert "r2 0.81 0 log_loss 2.152e-05 1" in text


def test_straggler_is_named(capsys: Capture) -> None:
    text = _training(capsys, straggler={"rank": 1, "excess_s": 4.25, "share": 0.375})
    assert "straggler worker 1 computes 4.2 s longer than the others, who wait for it (38% of the time)" in text


def test_missing_mlflow_run_comes_with_the_command_that_sends_it(capsys: Capture) -> None:
    assert "sync small-1" in _training(capsys, mlflow_run_id=None)


def test_plan_lists_its_problems_first(capsys: Capture) -> None:
    step = PrepareStep("read [1] file", action="prepare", output="/data/small")
    show_plan(Plan(("model.builder: [x]: missing",), (step,)), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["✘ model.builder: [x]: missing", "1. prepare: read [1] file"]
    show_plan(Plan((), (step,)), as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "problems": [],
        "steps": [{"stage": "prepare", "text": "read [1] file", "action": "prepare", "output": "/data/small"}],
        "objects": [],
    }


def _trial(number: int, value: float | None, state: str = "complete") -> Trial:
    values = {"train.optimizer.learning_rate": 0.0123456}
    return Trial(number, state, value, values, f"small-x-trial-{number:03d}", None, 12.3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"script": {"loss": 0.25, "rate": math.nan}}, "metric script loss 0.25 rate nan rows"),
        ({"script": {}}, "no metrics: the script reported none (farandole.report) rows"),
        ({"test": {}, "validation": {}}, "no metrics: there are no test or validation rows rows"),
    ],
)
def test_training_shows_what_a_script_reported(
    capsys: Capture, metrics: dict[str, dict[str, float]], shown: str
) -> None:
    assert shown in _training(capsys, metrics=metrics).replace("─", "").replace("  ", " ")


def test_document_has_null_for_a_metric_that_is_not_a_number(capsys: Capture) -> None:
    summary = replace(SUMMARY, metrics={"script": {"loss": math.nan}})
    trained = TrainedModel("small", "small-1", Path("/jobs/small-1"), DATASET, summary, "")
    show_training(Path("job.yaml"), JOB, trained, as_json=True)
    text = capsys.readouterr().out
    assert "NaN" not in text
    assert json.loads(text)["training"]["metrics"] == {"script": {"loss": None}}


@pytest.mark.parametrize(
    ("weights_step", "shown"),
    [(10, "best epoch 1 of 4 speed"), (40, "best epoch 1 of 4; the model has the weights of the last one speed")],
)
def test_training_shows_whose_weights_the_model_has(capsys: Capture, weights_step: int, shown: str) -> None:
    text = _training(capsys, epochs=4, best_epoch=1, weights_step=weights_step)
    assert shown in text.replace("rows 800 train, 200 test ", "")


def test_sweep_lists_the_best_trial_first_and_trials_without_a_value_last(capsys: Capture) -> None:
    trials = (_trial(0, 0.5), _trial(1, None, "failed"), _trial(2, 0.9, "pruned"), _trial(3, 0.8123456))
    result = SweepResult(
        "small-x", Path("/sweeps/small-x"), "roc_auc", "maximize", trials, trials[3], Path("/best.yaml"), None
    )
    show_sweep(JOB, result, as_json=False)
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines() if line[:1].isdigit()]
    assert [row[0] for row in rows] == ["3", "0", "2", "1"]
    assert rows[0][1:3] == ["0.8123", "0.01235"]
    assert "sync small-x" in " ".join(shown.split())
    show_sweep(JOB, result, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["id", "directory", "metric", "direction", "trials", "best", "mlflow_run_id"]
    assert document["best"] == {**trials[3].to_dict(), "job_file": "/best.yaml"}


DOCUMENTS: dict[str, Callable[[], None]] = {
    "training": lambda: show_training(Path("job.yaml"), JOB, _trained(), as_json=True),
    "plan": lambda: show_plan(_plan(), as_json=True),
    "sweep": lambda: show_sweep(JOB, _sweep_result(), as_json=True),
    "scale": lambda: show_scaling("small-1", 3, as_json=True),
    "submit": lambda: show_submitted(SubmittedJob("small-1", "local", "abc"), as_json=True),
    "status": lambda: show_status(_fixed_status(), as_json=True),
    "jobs": lambda: show_jobs([_fixed_status()], 1, as_json=True),
    "sync": lambda: show_synced([SyncResult("small-1", "http://x", 7, 3, "abc", None, "no answer")], as_json=True),
    "doctor": lambda: show_findings([Finding("java", True, "17", "")], as_json=True),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_is_the_golden_one(name: str, capsys: Capture) -> None:
    DOCUMENTS[name]()
    assert capsys.readouterr().out == (GOLDEN / f"{name}.json").read_text(encoding="utf-8")


def _trained() -> TrainedModel:
    dataset = DatasetSummary("/d", "1" * 64, {"train": 8, "test": 2}, reused=True, left_out={"a": 1})
    return TrainedModel("small", "small-1", Path("/jobs/small-1"), dataset, SUMMARY, "models:/small/3")


def _plan() -> Plan:
    steps = (
        PrepareStep("reuse the dataset", action="reuse", output="/d", digest="1" * 64, rows={"train": 8}),
        PrepareStep("read 1 file", action="prepare", output="/d", lacking=("data.privacy: …",)),
        TrainStep("train", workers=2, threads=1, steps=32),
        EvaluateStep("evaluate", metrics=["roc_auc"]),
        RegisterStep("register", model=None),
        SweepStep("sweep", trials=7, metric="roc_auc", space={"train.seed": "1 | 2"}),
    )
    return Plan(("a problem",), steps, ({"kind": "Job", "metadata": {"name": "small"}},))


def _sweep_result() -> SweepResult:
    trials = (_trial(0, 0.5), _trial(1, None, "failed"))
    return SweepResult(
        "small-x", Path("/sweeps/small-x"), "roc_auc", "maximize", trials, trials[0], Path("/best.yaml"), "abc"
    )


def _fixed_status() -> JobStatus:
    return JobStatus(
        id="small-1",
        name="small",
        backend="local",
        state="running",
        reason="attempt 1 is training",
        stage="train",
        attempt=1,
        workers=2,
        step=40,
        epoch=1,
        submitted_at="2026-01-01T00:00:00+00:00",
        since="2026-01-01T00:00:01+00:00",
        mlflow_run_id="abc",
        details={"directory": "/jobs/small-1"},
    )


def test_findings_are_shown_with_their_remedies(capsys: Capture) -> None:
    findings = [Finding("java", True, "17", ""), Finding("disk", False, "0.1 GB free", "free some space")]
    show_findings(findings, as_json=False)
    assert "✘ disk 0.1 GB free free some space" in _words(capsys)
    show_findings(findings, as_json=True)
    assert json.loads(capsys.readouterr().out)["findings"][0] == {
        "name": "java",
        "ok": True,
        "found": "17",
        "remedy": "",
    }


def test_sent_records_are_listed_by_job(capsys: Capture) -> None:
    show_synced([], as_json=False)
    assert "nothing to send" in capsys.readouterr().out
    show_synced([SyncResult("small-1", "http://x", 1200, 3, "abc", None, "the store does not answer")], as_json=False)
    assert "1,200" in capsys.readouterr().out


def _status(**changes: object) -> JobStatus:
    now = datetime.datetime.now(datetime.UTC)
    times = {"submitted_at": (now - datetime.timedelta(hours=3)).isoformat(), "since": now.isoformat()}
    fields = {"id": "flights-1", "name": "flights", "backend": "local", "state": "running", "reason": "is [starting]"}
    return JobStatus(**{**fields, **times, **changes})  # type: ignore[arg-type]


def test_only_the_id_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show_submitted(SubmittedJob("flights-1", "local"), as_json=False)
    captured = capsys.readouterr()
    assert captured.out == "flights-1\n"
    assert "farandole logs -f flights-1" in captured.err
    show_submitted(SubmittedJob("flights-1", "local"), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"id": "flights-1", "backend": "local", "mlflow_run_id": None}


def test_status_leaves_out_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(_status(), as_json=False)
    shown = capsys.readouterr().out
    assert "is [starting]" in shown
    assert "3 h ago" in shown
    assert "attempt" not in shown
    details = {"directory": "/jobs/flights-1", "hosts": ["localhost:2"], "recoveries": 2}
    trained = _status(stage="train", attempt=3, workers=2, step=1200, epoch=4, priority=5, details=details)
    show_status(trained, as_json=False)
    shown = capsys.readouterr().out
    for words in ("3, with 2 workers, 2 recoveries", "1,200, 4 epochs done", "local, priority 5", "localhost:2"):
        assert words in shown
    show_status(trained, as_json=True)
    assert json.loads(capsys.readouterr().out)["details"] == details


def test_jobs_beyond_the_limit_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    show_jobs([], 0, as_json=False)
    assert "farandole submit JOB.yaml" in capsys.readouterr().out
    show_jobs([_status(stage="train", attempt=2, step=1200), _status(id="flights-2", state="queued")], 7, as_json=False)
    shown = capsys.readouterr().out
    assert "train, step 1,200" in shown
    assert "5 more; --limit shows them" in shown
    show_jobs([_status()], 1, as_json=True)
    assert [job["id"] for job in json.loads(capsys.readouterr().out)] == ["flights-1"]
