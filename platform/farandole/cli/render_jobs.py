"""Renders jobs: their submission, their list and their state."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING, Any

from rich.text import Text

from farandole.cli.console import Column, make_console, print_table, print_text, print_values
from farandole.cli.render import print_json
from farandole.events import format_count, format_duration, format_metric, format_rate

if TYPE_CHECKING:
    from farandole.backends.protocol import JobStatus, SubmittedJob

_SHOWN_ELSEWHERE = ("recoveries", "next", "result")
"""Details that are part of another row, or too long for one."""
_COLOURS = {"queued": "yellow", "running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "dim"}


def show_submitted(submitted: SubmittedJob, *, as_json: bool) -> None:
    """Show the result of `submit` and `retry`: on standard output only the id, for scripts."""
    if as_json:
        print_json(submitted.to_dict())
        return
    print(submitted.id, flush=True)
    text = f"`farandole logs -f {submitted.id}` follows its log,\n`farandole status {submitted.id}` shows its state"
    print(text, file=sys.stderr)


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
    console = make_console()
    if not jobs:
        print_text(console, "no jobs; `farandole run JOB.yaml` runs one, `farandole submit JOB.yaml` submits one")
        return
    has_backends = len({job.backend for job in jobs}) > 1
    columns = [Column("id", style="bold"), Column("state"), Column("since", is_number=True), Column("backend")]
    columns += [Column("stage"), Column("reason", is_text=True)]
    rows: list[list[str | Text]] = []
    for job in jobs:
        step = f", step {job.step:,}" if job.step and job.stage else ""
        backend = job.backend if has_backends else ""
        reason = next(iter(job.reason.splitlines()), "")
        rows.append([job.id, _state(job), _ago(job.since), backend, f"{job.stage or ''}{step}", reason])
    print_table(console, columns, rows, heads=2)
    if total > len(jobs):
        print_text(console, "")
        hidden = total - len(jobs)
        print_text(console, f"{hidden:,} more; --limit shows {'it' if hidden == 1 else 'them'}", style="dim")


def show_status(job: JobStatus, *, as_json: bool) -> None:
    """Show the state of one job."""
    if as_json:
        print_json(job.to_dict())
        return
    rows = [("state", f"{job.state} ({_ago(job.since)})" if job.since else job.state), ("reason", job.reason)]
    rows += _progress_rows(job)
    if job.attempt:
        rows.append(("attempt", f"{job.attempt}, with {format_count(job.workers, 'worker')}{_recoveries(job)}"))
    if job.checkpoint is not None:
        rows.append(("checkpoint", f"after step {job.checkpoint.step:,} ({_ago(job.checkpoint.saved_at)})"))
    rows.append(("backend", job.backend + (f", priority {job.priority}" if job.priority else "")))
    rows.append(("submitted", _moment(job.submitted_at)))
    rows.append(("MLflow run", job.mlflow_run_id or "not created yet"))
    for name, value in job.details.items():
        if name not in _SHOWN_ELSEWHERE and value not in (None, [], {}, "") and (name != "starts" or value > 1):
            rows.append((name.replace("_", " "), _detail(value)))
    if "next" in job.details:
        rows.append(("next", job.details["next"]))
    print_values(make_console(), rows, title=job.id)


def _progress_rows(job: JobStatus) -> list[tuple[str, str]]:
    """Return what is known about how far a job is: its stage, step, time left and metrics."""
    progress, rows = job.progress, []
    is_running = job.state == "running"
    if job.stage:
        done = ""
        if is_running and progress is not None and progress.total:
            share = min(1.0, progress.done / progress.total)
            done = f", {progress.done:,} of {progress.total:,} {progress.unit} ({share:.0%})"
            done += f", {format_rate(progress.rows_per_s)}" if progress.rows_per_s else ""
        rows.append(("stage", f"{job.stage}{done}"))
    if job.step or job.epoch:
        epochs = f"{job.epoch} of {format_count(progress.epochs, 'epoch')}" if progress and progress.epochs else ""
        rows.append(("step", f"{job.step:,}, {epochs or format_count(job.epoch, 'epoch')} done"))
    if is_running and progress is not None and progress.left_s is not None:
        passed_s = (_now() - datetime.datetime.fromisoformat(progress.at)).total_seconds()
        rows.append(("time left", f"{format_duration(max(0, round(progress.left_s - passed_s)))} in this stage"))
    if progress is not None and progress.metrics:
        metrics = ", ".join(f"{name} {format_metric(value)}" for name, value in progress.metrics.items())
        rows.append(("metrics", f"{metrics} (validation after epoch {progress.epoch})"))
    return rows


def _detail(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {each}" for name, each in value.items())
    return str(value)


def _state(job: JobStatus) -> Text:
    return Text(job.state, style=_COLOURS[job.state])


def _recoveries(job: JobStatus) -> str:
    count = job.details.get("recoveries")
    return f", {count} {'recovery' if count == 1 else 'recoveries'}" if count else ""


def _moment(text: str) -> str:
    """Return a time in full, and how long ago it was."""
    if not text:
        return "unknown"
    moment = datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({_ago(text)})"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _ago(text: str) -> str:
    """Return how long ago a time was, in the largest unit that fits."""
    if not text:
        return ""
    passed = _now() - datetime.datetime.fromisoformat(text)
    seconds = max(0, round(passed.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
