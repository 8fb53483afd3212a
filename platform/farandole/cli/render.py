"""Shows results: one JSON document, or tables."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from farandole.events import format_count
from farandole.spec import Job


def show_run(job_file: Path, job: Job, document: dict[str, Any], *, as_json: bool) -> None:
    """The end of `run` and `train`."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    training, dataset = document["training"], document["dataset"]
    table = Table(title=f"{job.name}: {document['model']['uri']}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for split in ("test", "validation"):
        measured = training["metrics"][split]
        table.add_row(f"{split} metrics", ", ".join(f"{k} {v:.4f}" for k, v in measured.items()) or "none")
    table.add_row("rows", ", ".join(f"{rows:,} {split}" for split, rows in dataset["rows"].items()))
    gang = f"{format_count(training['workers'], 'worker')}, {format_count(training['steps'], 'step')}"
    table.add_row("speed", f"{training['rows_per_s']:,.0f} rows/s ({gang}, attempt {training['attempts']})")
    spent = {name.removesuffix("_s").replace("_", " "): value for name, value in training["time_split"].items()}
    table.add_row("time", ", ".join(f"{name} {value:.1f} s" for name, value in spent.items()))
    if len(training.get("time_by_rank", ())) > 1:
        table.add_row("time by worker", "\n".join(_rank_times(training["time_by_rank"])))
    if training.get("straggler"):
        slow = training["straggler"]
        text = f"worker {slow['rank']} computes {slow['excess_s']:.1f} s longer than the others, who wait for it"
        table.add_row("straggler", f"{text} ({slow['share']:.0%} of the time)")
    table.add_row("shards", dataset["path"] + (" (reused)" if dataset["reused"] else ""))
    later = f"not made yet: {_command()} sync {document['id']}"
    table.add_row("MLflow run", training["mlflow_run_id"] or later)
    table.add_row("job", document["directory"])
    table.add_row("next", f"{_command()} ui" + ("" if job.tracking.uri is None else f" {job_file}"))
    Console().print(table)


def show_dataset(job_file: Path, job: Job, document: dict[str, Any], *, as_json: bool) -> None:
    """The end of `prepare`."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    table = Table(title="dataset", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("path", document["path"] + (" (reused)" if document["reused"] else ""))
    table.add_row("digest", document["digest"])
    table.add_row("rows", ", ".join(f"{rows:,} {split}" for split, rows in document["rows"].items()))
    if any(document["left_out"].values()):
        left_out = ", ".join(f"{rows:,} of {source}" for source, rows in document["left_out"].items() if rows)
        table.add_row("left out", f"{left_out}; see {_command()} data inspect {document['path']}")
    then = f"train {job_file}" if job.model and job.data.label else f"data inspect {document['path']}"
    table.add_row("next", f"{_command()} {then}")
    Console().print(table)


def show_plan(document: dict[str, Any], *, as_json: bool) -> None:
    """What `plan` found: problems first."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    console = Console()
    for problem in document["problems"]:
        console.print(f"[red]✘[/red] {escape(problem)}", highlight=False, soft_wrap=True)
    for number, step in enumerate(document["steps"], start=1):
        console.print(
            f"{number}. [bold]{step['stage']}[/bold]: {escape(step['text'])}", highlight=False, soft_wrap=True
        )
    for made in document["objects"]:
        console.print(f"   {made['kind']}/{made['metadata']['name']}", highlight=False, markup=False, soft_wrap=True)
    if not document["problems"]:
        console.print("[green]✔[/green] nothing is wrong, as far as can be told without reading the data")


def show_scaling(job_id: str, workers: int, *, as_json: bool) -> None:
    """The end of `scale`."""
    if as_json:
        print(json.dumps({"id": job_id, "workers": workers}, indent=2))
    else:
        print(f"{job_id}: asked to go on with {format_count(workers, 'worker')}, from the next checkpoint on")


def show_sweep(job: Job, document: dict[str, Any], *, as_json: bool) -> None:
    """The end of `sweep`: its trials, the best first."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    best, metric = document["best"], document["metric"]
    fields = list(best["values"])
    table = Table(title=f"{job.name}: {metric} on validation, {document['direction']}", title_justify="left")
    for column in ("trial", metric, *fields, "state", "time"):
        table.add_column(column, overflow="fold")
    sign = -1 if document["direction"] == "maximize" else 1
    order = [trial for trial in document["trials"] if trial["value"] is not None]
    order.sort(key=lambda trial: (trial["state"] != "complete", sign * trial["value"]))
    order += [trial for trial in document["trials"] if trial["value"] is None]
    for trial in order:
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        values = [_shown(trial["values"][field]) for field in fields]
        style = "bold green" if trial["number"] == best["number"] else None
        row = (str(trial["number"]), value, *values, trial["state"], f"{trial['seconds']:.0f} s")
        table.add_row(*row, style=style)
    console = Console()
    console.print(table)
    later = f"not made yet: {_command()} sync {document['id']}"
    console.print(f"MLflow run  {document['mlflow_run_id'] or later}", highlight=False, soft_wrap=True)
    console.print(f"next        {_command()} run {best['job_file']}", highlight=False, soft_wrap=True)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_synced(synced: list[dict[str, Any]], *, as_json: bool) -> None:
    """What `sync` sent."""
    if as_json:
        print(json.dumps(synced, indent=2))
        return
    if not synced:
        Console().print("nothing waits: MLflow has taken what all jobs have recorded")
        return
    table = Table()
    for column in ("job", "sent", "waiting", "MLflow run", "model", "store"):
        table.add_column(column, overflow="fold")
    for job in synced:
        store = job["store"] + (f": {job['problem']}" if job["problem"] else "")
        counts = (f"{job['sent']:,}", f"{job['unsent']:,}")
        table.add_row(job["id"], *counts, job["mlflow_run_id"] or "", job["model_uri"] or "", escape(store))
    Console().print(table)


def show_findings(findings: list[dict[str, Any]], *, as_json: bool) -> None:
    """What `doctor` found."""
    if as_json:
        print(json.dumps({"findings": findings}, indent=2))
        return
    table = Table()
    for column in ("", "what", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]✔" if finding["ok"] else "[red]✘"
        table.add_row(mark, finding["name"], escape(finding["found"]), escape(finding["remedy"]))
    Console().print(table)


_MOST_RANKS = 16
"""So many workers are shown one by one."""


def _rank_times(ranks: list[dict[str, float]]) -> list[str]:
    """The steps' time of each worker; the document has all parts of all of them."""
    lines = [
        f"{rank}: data wait {times['data_wait_s']:.1f} s, compute {times['compute_s']:.1f} s,"
        f" all-reduce wait {times['all_reduce_wait_s']:.1f} s"
        for rank, times in enumerate(ranks[:_MOST_RANKS])
    ]
    return lines + ([f"and {len(ranks) - _MOST_RANKS} more"] if len(ranks) > _MOST_RANKS else [])


def _command() -> str:
    """How the user can call this command again: by its name, or by the path that was used where it is not found."""
    return "farandole" if shutil.which("farandole") else sys.argv[0]
