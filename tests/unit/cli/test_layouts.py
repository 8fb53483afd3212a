"""Every table at 80 and at 50 columns: golden files, which nothing may exceed or divide."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from farandole.backends.protocol import JobStatus
from farandole.cli import main as cli
from farandole.cli import render_jobs
from farandole.cli.console import make_console, print_values
from farandole.cli.doctor import Finding
from farandole.cli.render import show_findings, show_plan, show_sweep, show_synced, show_training
from farandole.cli.render_jobs import show_jobs, show_status
from farandole.jobdir.checkpoints import SavedCheckpoint
from farandole.jobdir.outcome import JobProgress
from farandole.launch import DatasetSummary, TrainedModel
from farandole.planning import EvaluateStep, Plan, PrepareStep, RegisterStep, TrainStep
from farandole.sweeping.sweep import SweepResult
from farandole.sweeping.trial import Trial
from farandole.tracking.sync import SyncResult
from tests.unit.cli.test_render import JOB, SUMMARY

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 50)
_HOME = "/home/somebody/.farandole"
METRICS = {"roc_auc": 0.81063, "average_precision": 0.6377, "accuracy": 0.82394, "log_loss": 0.41687}
_RUN = "fef9189a9b4a4b0da00e39dcbfa62a4a"


def _id(name: str, number: int = 7) -> str:
    return f"{name}-20261130-11223{number}-767c"


NOW = datetime.datetime(2026, 11, 30, 11, 22, 37, tzinfo=datetime.UTC)


def _ago(**passed: int) -> str:
    return (NOW - datetime.timedelta(**passed)).isoformat(timespec="milliseconds")


def _job(name: str, **fields: object) -> JobStatus:
    job_id = _id(name)
    base = JobStatus(
        job_id, name, "local", "queued", "waits: 2 jobs ahead of it; 1 of 1 slot taken", since=_ago(hours=2)
    )
    return replace(base, submitted_at=_ago(days=1), **fields)  # type: ignore[arg-type]


_PRIOR = {"roc_auc": 0.5, "average_precision": 0.24, "accuracy": 0.76, "log_loss": 0.5512}


def _training() -> None:
    splits = {"data_wait_s": 0.1, "compute_s": 9.93, "all_reduce_wait_s": 1.52, "evaluate_s": 142.4}
    training = replace(
        SUMMARY,
        mlflow_run_id=_RUN,
        rows_per_s=181_131.0,
        steps=512,
        metrics={"test": METRICS, "validation": METRICS},
        time_split=splits,
        time_by_rank=[splits, splits],
        straggler={"rank": 1, "excess_s": 4.25, "share": 0.375},
        epochs=8,
        best_epoch=3,
        evaluation={
            "baselines": {"prior": _PRIOR, "hist_gradient_boosting": {**METRICS, "accuracy": 0.82}},
            "intervals": {"test": {name: [value - 0.01, value + 0.01] for name, value in METRICS.items()}},
            "notes": ["over-fitting: the best epoch was 3 of 8; log_loss on validation rose from 0.41 to 0.65 since"],
        },
    )
    rows = {"train": 261_491, "validation": 32_632, "test": 33_223}
    dataset = DatasetSummary(f"{_HOME}/datasets/flights", "1" * 64, rows, reused=True)
    directory = Path(_HOME) / "jobs" / _id("flights")
    trained = TrainedModel("flights", _id("flights"), directory, dataset, training, "models:/flights/1")
    show_training(Path("job.yaml"), JOB, trained, as_json=False)


_CHOSEN = {
    "train.epochs": 12,
    "train.global_batch_size": 32,
    "train.optimizer.learning_rate": 0.0234567,
    "train.optimizer.weight_decay": 0.02,
    "train.schedule.name": "cosine",
    "train.label_smoothing": 0.0,
    "resources.cpus": 1,
    "train.early_stopping.patience": 5,
    "model.options.members": 16,
    "model.options.dropout": 0.0,
}


def _plan() -> None:
    steps = (
        PrepareStep(
            f"read 3 files (31.2 MB) of flights, weather, planes with Spark on local[*] and write shards to {_HOME}/f",
            action="prepare",
            output="/d",
        ),
        TrainStep(
            "train farandole.models.tabular:build for 12 epochs with 32 rows per step on 1 worker with 1 thread",
            workers=1,
            threads=1,
            chosen=_CHOSEN,
        ),
        EvaluateStep("evaluate roc_auc, accuracy on validation after each epoch", metrics=["roc_auc"]),
        RegisterStep(f"add a version to the registered model flights in sqlite:///{_HOME}/mlflow.db", model="flights"),
    )
    problem = (
        "data.features.carier: not a column of flights; did you mean carrier? Its columns are carrier, origin, dest"
    )
    show_plan(Plan((problem,), steps), as_json=False)
    show_plan(Plan((), steps[:1]), as_json=False)


def _values() -> None:
    """Show names and values that exceed the line whether they are below their names or beside."""
    names = ", ".join(f"{'a-long-name-of-a-column-' * 2}{number}" for number in range(3))
    print_values(make_console(), [("data", "600 rows of csv"), ("categorical", f"3: {names}")], title="wide: job.yaml")
    print_values(make_console(), [("early_stopping.patience", "5"), ("members", "16")], title="auto", indent=3)


def _jobs() -> None:
    jobs = [
        _job("flights", state="running", stage="train", attempt=1, step=1200, reason="attempt 1 is training"),
        _job(
            "mnist",
            state="failed",
            reason="worker 1 was killed by signal 9, SIGKILL (the kernel does this when memory"
            " runs out); `farandole retry` resumes it from its last checkpoint",
        ),
        _job("a-name-of-thirty-six-characters-or-so"),
    ]
    show_jobs(jobs, 12, as_json=False)


def _status() -> None:
    details = {"directory": f"{_HOME}/jobs/{_id('flights')}", "hosts": ["localhost:2"], "recoveries": 2, "runner": 4242}
    show_status(
        _job(
            "flights",
            state="running",
            stage="train",
            attempt=3,
            workers=2,
            step=1200,
            epoch=4,
            priority=5,
            reason="attempt 3 is training",
            mlflow_run_id=_RUN,
            progress=JobProgress(
                "train",
                "train: epoch 5 of 8",
                _ago(seconds=2),
                1_123_456,
                2_091_928,
                "rows",
                181_131.0,
                62.0,
                4,
                8,
                METRICS,
            ),
            checkpoint=SavedCheckpoint(1024, _ago(seconds=40)),
            details=details,
        ),
        as_json=False,
    )
    command = "farandole run jobs/flights/job.yaml --set train.epochs=2 --resume"
    failed = {"directory": f"{_HOME}/jobs/{_id('flights')}", "starts": 1}
    failed["next"] = f"`{command}` continues it from its checkpoint after step 1,024"
    show_status(_job("flights", state="failed", reason="its process 4242 was killed", details=failed), as_json=False)


def _sweep() -> None:
    values = [{"train.optimizer.learning_rate": 0.0123456, "model.options.hidden": [64, 32]} for _ in range(3)]
    trials = (
        Trial(0, "complete", 0.8123456, values[0], "x-trial-000", _RUN, 12.3),
        Trial(1, "failed", None, values[1], "x-trial-001", None, 3.0, reason="worker 0: the loss is not finite"),
        Trial(2, "pruned", 0.7, values[2], "x-trial-002", None, 230.0),
    )
    directory = Path(_HOME) / "sweeps" / _id("flights")
    show_sweep(
        JOB,
        SweepResult(_id("flights"), directory, "roc_auc", "maximize", trials, trials[0], directory / "best.yaml", None),
        as_json=False,
    )


def _sync() -> None:
    problem = "the server does not answer (connection refused)"
    results = [
        SyncResult(_id("flights"), "http://mlflow.example.com:5000", 1200, 3, _RUN, "models:/flights/1", problem)
    ]
    show_synced(results, as_json=False)


def _doctor() -> None:
    findings = [
        Finding("java", True, "17.0.12 in /usr/lib/jvm/java-17-openjdk-amd64/bin/java", ""),
        Finding("horovod.torch", False, "undefined symbol: _ZN3c10", "build its wheel for this torch: `make setup`"),
        Finding("disk", False, f"0.4 GB free in {_HOME}", "free some space, or set FARANDOLE_HOME"),
    ]
    show_findings(findings, as_json=False)


LAYOUTS: dict[str, Callable[[], None]] = {
    "training": _training,
    "plan": _plan,
    "values": _values,
    "jobs": _jobs,
    "status": _status,
    "sweep": _sweep,
    "sync": _sync,
    "doctor": _doctor,
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_the_golden_one(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(render_jobs, "_now", lambda: NOW)
    monkeypatch.setattr("shutil.which", lambda program: f"/bin/{program}")
    LAYOUTS[name]()
    shown = capsys.readouterr().out
    too_long = [line for line in shown.splitlines() if len(line) > width]
    assert all(max(map(len, line.split())) > width - 30 for line in too_long), "only paths and ids may be too long"
    assert shown == (GOLDEN / f"{name}.{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [100, *WIDTHS])
def test_help_fits_the_terminal_and_names_no_types(width: int) -> None:
    whole: Any = typer.main.get_command(cli.app)
    groups = (whole, whole.commands["data"], whole.commands["keys"])
    commands = [whole, *(command for group in groups for command in group.commands.values())]
    for command in commands:
        with typer.Context(command, info_name="farandole", terminal_width=width - 2) as context:
            shown = command.get_help(context)
        assert max(map(len, shown.splitlines())) <= width
        assert "<" not in shown
        assert "..." not in shown.partition("\n")[2]


def test_help_lists_the_commands_in_groups() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    headings = [line for line in shown.splitlines() if line[:1].isalpha() and line.endswith(":")]
    assert headings[:3] == ["Options:", "Run a job:", "Follow and control jobs:"]
    assert "Commands:" not in headings


def test_job_that_waits_has_no_row_for_its_starts(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(_job("flights", state="queued", reason="waits: it is next", details={"starts": 0}), as_json=False)
    assert "starts" not in capsys.readouterr().out


def test_one_hidden_job_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    show_jobs([_job("flights", state="queued", reason="waits")], 2, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "1 more; --limit shows it"
