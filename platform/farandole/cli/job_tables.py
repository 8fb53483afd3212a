"""Shows submitted jobs: one JSON document, or tables."""

from __future__ import annotations

import datetime
import json
import sys
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from farandole.events import format_count

if TYPE_CHECKING:
    from farandole.backends.protocol import JobStatus, SubmittedJob

_COLOURS = {"queued": "yellow", "running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "dim"}


def show_submitted(submitted: SubmittedJob, *, as_json: bool) -> None:
    """The end of `submit` and `retry`: the id alone on standard output, for scripts."""
    if as_json:
        print(json.dumps(submitted.to_dict(), indent=2))
        return
    print(submitted.id, flush=True)
    print(f"farandole logs -f {submitted.id} follows it, farandole status {submitted.id} tells more", file=sys.stderr)


def show_jobs(jobs: list[JobStatus], total: int, *, as_json: bool) -> None:
    """What `jobs` lists.

    Args:
        jobs: Those to show.
        total: How many there are.
        as_json: Whether to print a document.
    """
    if as_json:
        print(json.dumps([job.to_dict() for job in jobs], indent=2))
        return
    console = Console()
    if not jobs:
        console.print("no jobs; `farandole submit JOB.yaml` submits one", markup=False, highlight=False)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    backends = len({job.backend for job in jobs}) > 1
    for column in ("id", "state", "since", *(["backend"] if backends else []), "stage", "reason"):
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "state", "since"))
    for job in jobs:
        step = f", step {job.step:,}" if job.step and job.stage else ""
        row = (job.id, _state(job), _ago(job.since), *([job.backend] if backends else []))
        table.add_row(*row, f"{job.stage or ''}{step}", escape(job.reason))
    console.print(table)
    if total > len(jobs):
        console.print(f"{total - len(jobs):,} more; --limit shows them", style="dim", highlight=False)


def show_status(job: JobStatus, *, as_json: bool) -> None:
    """Where one job stands."""
    if as_json:
        print(json.dumps(job.to_dict(), indent=2))
        return
    table = Table(title=job.id, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("state", f"{_state(job)} ({_ago(job.since)})")
    table.add_row("reason", escape(job.reason))
    if job.stage:
        table.add_row("stage", job.stage)
    if job.attempt:
        table.add_row("attempt", f"{job.attempt} of {format_count(job.workers, 'worker')}{_recovered(job)}")
        table.add_row("step", f"{job.step:,}, {format_count(job.epoch, 'epoch')} done")
    table.add_row("backend", job.backend + (f", priority {job.priority}" if job.priority else ""))
    table.add_row("submitted", f"{job.submitted_at} ({_ago(job.submitted_at)})")
    table.add_row("MLflow run", job.mlflow_run_id or "not made yet")
    for name, value in job.details.items():
        if name != "recoveries":
            text = value if isinstance(value, str) else json.dumps(value)
            table.add_row(name.replace("_", " "), escape(text))
    Console().print(table)


def _state(job: JobStatus) -> str:
    return f"[{_COLOURS[job.state]}]{job.state}[/]"


def _recovered(job: JobStatus) -> str:
    times = job.details.get("recoveries")
    return f", {times} {'recovery' if times == 1 else 'recoveries'}" if times else ""


def _ago(text: str) -> str:
    """How long ago a time was, in the largest unit that fits."""
    if not text:
        return ""
    passed = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(text)
    seconds = max(0, round(passed.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
