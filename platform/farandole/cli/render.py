"""Renders results: one JSON document, or tables with numbers rounded for people."""

from __future__ import annotations

import datetime
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from farandole.events import format_count, format_metric

if TYPE_CHECKING:
    from farandole.backends.protocol import JobStatus, SubmittedJob
    from farandole.cli.doctor import Finding
    from farandole.ingest.prepared import PreparedDataset
    from farandole.launch import TrainedModel
    from farandole.planning import Plan
    from farandole.spec import Job
    from farandole.sweeping.sweep import SweepResult
    from farandole.sweeping.trial import Trial
    from farandole.tracking.sync import SyncResult

_MAX_RANKS = 16
"""Workers that are shown one by one."""
_COLOURS = {"queued": "yellow", "running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "dim"}


def print_json(document: Any) -> None:
    """Print a result document on standard output."""
    print(json.dumps(document, indent=2))


# The pipeline -------------------------------------------------------------------------------------------------


def show_training(job_file: Path, job: Job, trained: TrainedModel, *, as_json: bool) -> None:
    """Show the result of `run` and `train`."""
    if as_json:
        print_json(trained.to_dict())
        return
    training, dataset = trained.training, trained.dataset
    table = block(f"{job.name}: {trained.model_uri}")
    for split in ("test", "validation"):
        metrics = ", ".join(f"{name} {_rounded(value)}" for name, value in training.metrics[split].items())
        table.add_row(f"{split} metrics", metrics or "none")
    table.add_row("rows", _rows(dataset.rows))
    gang = f"{format_count(training.workers, 'worker')}, {format_count(training.steps, 'step')}"
    table.add_row("speed", f"{training.rows_per_s:,.0f} rows/s ({gang}, attempt {training.attempts})")
    spent = {name.removesuffix("_s").replace("_", " "): value for name, value in training.time_split.items()}
    table.add_row("time", ", ".join(f"{name} {value:.1f} s" for name, value in spent.items()))
    if len(training.time_by_rank) > 1:
        table.add_row("time by worker", "\n".join(_rank_times(training.time_by_rank)))
    if training.straggler:
        slow = training.straggler
        text = f"worker {slow['rank']} computes {slow['excess_s']:.1f} s longer than the others, who wait for it"
        table.add_row("straggler", f"{text} ({slow['share']:.0%} of the time)")
    table.add_row("shards", escape(dataset.path) + (" (reused)" if dataset.reused else ""))
    table.add_row("MLflow run", training.mlflow_run_id or _unsent(trained.id))
    table.add_row("job", escape(str(trained.directory)))
    table.add_row("next", f"{_command()} ui" + ("" if job.tracking.uri is None else f" {job_file}"))
    Console().print(table)


def show_dataset(job_file: Path, job: Job, prepared: PreparedDataset, *, as_json: bool) -> None:
    """Show the result of `prepare`."""
    document = prepared.to_dict()
    if as_json:
        print_json(document)
        return
    table = block("dataset")
    table.add_row("path", escape(str(prepared.path)) + (" (reused)" if prepared.reused else ""))
    table.add_row("digest", prepared.manifest.digest)
    table.add_row("rows", _rows(prepared.manifest.row_counts))
    left_out = ", ".join(f"{rows:,} of {source}" for source, rows in document["left_out"].items() if rows)
    if left_out:
        table.add_row("left out", f"{left_out}; see {_command()} data inspect {prepared.path}")
    then = f"train {job_file}" if job.model and job.data.label else f"data inspect {prepared.path}"
    table.add_row("next", f"{_command()} {then}")
    Console().print(table)


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Show the result of `plan`, problems first."""
    if as_json:
        print_json(plan.to_dict())
        return
    console = Console()
    for problem in plan.problems:
        console.print(f"[red]✘[/red] {escape(problem)}", highlight=False, soft_wrap=True)
    for number, step in enumerate(plan.steps, start=1):
        console.print(f"{number}. [bold]{step.stage}[/bold]: {escape(step.text)}", highlight=False, soft_wrap=True)
    for each in plan.objects:
        console.print(f"   {each['kind']}/{each['metadata']['name']}", highlight=False, markup=False, soft_wrap=True)
    if not plan.problems:
        console.print("[green]✔[/green] no problems found; the data itself has not been read")


def show_scaling(job_id: str, workers: int, *, as_json: bool) -> None:
    """Show the result of `scale`."""
    if as_json:
        print_json({"id": job_id, "workers": workers})
    else:
        print(f"{job_id}: continues with {format_count(workers, 'worker')} from its next checkpoint on")


def show_sweep(job: Job, result: SweepResult, *, as_json: bool) -> None:
    """Show the result of `sweep`: its trials, the best first."""
    if as_json:
        print_json(result.to_dict())
        return
    fields = list(result.best.values)
    table = Table(title=f"{job.name}: {result.metric} on validation, {result.direction}", title_justify="left")
    for column in ("trial", result.metric, *fields, "state", "time"):
        table.add_column(column, overflow="fold")
    for trial in _best_first(result):
        value = "" if trial.value is None else _rounded(trial.value)
        values = [_rounded(trial.values[field]) for field in fields]
        style = "bold green" if trial.number == result.best.number else None
        table.add_row(str(trial.number), value, *values, trial.state, f"{trial.seconds:.0f} s", style=style)
    console = Console()
    console.print(table)
    run_id = result.mlflow_run_id or _unsent(result.id)
    console.print(f"MLflow run  {run_id}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"next        {_command()} run {result.best_file}", highlight=False, markup=False, soft_wrap=True)


def _best_first(result: SweepResult) -> list[Trial]:
    """Return the trials in order: complete before others, better before worse, without a value last."""
    sign = -1 if result.direction == "maximize" else 1

    def order(trial: Trial) -> tuple[bool, bool, float]:
        return trial.value is None, trial.state != "complete", sign * (trial.value or 0.0)

    return sorted(result.trials, key=order)


def _rank_times(ranks: list[dict[str, float]]) -> list[str]:
    """Return a line with the steps' time of each worker; the document has all parts of all workers."""
    lines = [
        f"{rank}: data wait {times['data_wait_s']:.1f} s, compute {times['compute_s']:.1f} s,"
        f" all-reduce wait {times['all_reduce_wait_s']:.1f} s"
        for rank, times in enumerate(ranks[:_MAX_RANKS])
    ]
    return lines + ([f"and {len(ranks) - _MAX_RANKS} more"] if len(ranks) > _MAX_RANKS else [])


# Submitted jobs -----------------------------------------------------------------------------------------------


def show_submitted(submitted: SubmittedJob, *, as_json: bool) -> None:
    """Show the result of `submit` and `retry`: on standard output only the id, for scripts."""
    if as_json:
        print_json(submitted.to_dict())
        return
    print(submitted.id, flush=True)
    print(
        f"`farandole logs -f {submitted.id}` follows its log, `farandole status {submitted.id}` shows its state",
        file=sys.stderr,
    )


def show_jobs(jobs: list[JobStatus], total: int, *, as_json: bool) -> None:
    """Show the result of `jobs`.

    Args:
        jobs: The jobs to show.
        total: The number of jobs that match.
        as_json: Whether to print a document.
    """
    if as_json:
        print_json([job.to_dict() for job in jobs])
        return
    console = Console()
    if not jobs:
        console.print("no jobs; `farandole submit JOB.yaml` submits one", markup=False, highlight=False)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    has_backends = len({job.backend for job in jobs}) > 1
    for column in ("id", "state", "since", *(["backend"] if has_backends else []), "stage", "reason"):
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "state", "since"))
    for job in jobs:
        step = f", step {job.step:,}" if job.step and job.stage else ""
        row = (job.id, _state(job), _ago(job.since), *([job.backend] if has_backends else []))
        table.add_row(*row, f"{job.stage or ''}{step}", escape(job.reason))
    console.print(table)
    if total > len(jobs):
        console.print(f"{total - len(jobs):,} more; --limit shows them", style="dim", highlight=False)


def show_status(job: JobStatus, *, as_json: bool) -> None:
    """Show the state of one job."""
    if as_json:
        print_json(job.to_dict())
        return
    table = block(job.id)
    table.add_row("state", f"{_state(job)} ({_ago(job.since)})")
    table.add_row("reason", escape(job.reason))
    if job.stage:
        table.add_row("stage", job.stage)
    if job.attempt:
        table.add_row("attempt", f"{job.attempt}, with {format_count(job.workers, 'worker')}{_recoveries(job)}")
        table.add_row("step", f"{job.step:,}, {format_count(job.epoch, 'epoch')} done")
    table.add_row("backend", job.backend + (f", priority {job.priority}" if job.priority else ""))
    table.add_row("submitted", f"{job.submitted_at} ({_ago(job.submitted_at)})")
    table.add_row("MLflow run", job.mlflow_run_id or "not created yet")
    for name, value in job.details.items():
        if name != "recoveries":
            text = value if isinstance(value, str) else json.dumps(value)
            table.add_row(name.replace("_", " "), escape(text))
    Console().print(table)


def _state(job: JobStatus) -> str:
    return f"[{_COLOURS[job.state]}]{job.state}[/]"


def _recoveries(job: JobStatus) -> str:
    count = job.details.get("recoveries")
    return f", {count} {'recovery' if count == 1 else 'recoveries'}" if count else ""


def _ago(text: str) -> str:
    """Return how long ago a time was, in the largest unit that fits."""
    if not text:
        return ""
    passed = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(text)
    seconds = max(0, round(passed.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


# Tools --------------------------------------------------------------------------------------------------------


def show_synced(results: Sequence[SyncResult], *, as_json: bool) -> None:
    """Show the result of `sync`."""
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    if not results:
        Console().print("nothing to send: MLflow has every record of every job")
        return
    table = Table()
    for column in ("job", "sent", "waiting", "MLflow run", "model", "store"):
        table.add_column(column, overflow="fold")
    for result in results:
        store = result.store + (f": {result.problem}" if result.problem else "")
        counts = (f"{result.sent:,}", f"{result.unsent:,}")
        table.add_row(result.id, *counts, result.mlflow_run_id or "", result.model_uri or "", escape(store))
    Console().print(table)


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Show the result of `doctor`."""
    if as_json:
        print_json({"findings": [finding.to_dict() for finding in findings]})
        return
    table = Table()
    for column in ("", "check", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]✔" if finding.ok else "[red]✘"
        table.add_row(mark, finding.name, escape(finding.found), escape(finding.remedy))
    Console().print(table)


def block(title: str) -> Table:
    """Return a table of names and values."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _rows(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in rows.items())


def _rounded(value: Any) -> str:
    return format_metric(value) if isinstance(value, float) else str(value)


def _unsent(job_id: str) -> str:
    return f"not created yet; `{_command()} sync {job_id}` sends the records"


def _command() -> str:
    """Return how the user can call this command again: by its name, or by its path where the name is not found."""
    return "farandole" if shutil.which("farandole") else sys.argv[0]
