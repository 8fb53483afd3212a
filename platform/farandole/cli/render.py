"""Renders results of the pipeline: one JSON document, or tables with numbers rounded for people."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from farandole.cli.console import Column, make_console, mark, print_table, print_text, print_values
from farandole.events import format_count, format_duration, format_metric, format_rate
from farandole.process.json_text import json_text

if TYPE_CHECKING:
    from farandole.cli.doctor import Finding
    from farandole.ingest.prepared import PreparedDataset
    from farandole.launch import TrainedModel, TrainingSummary
    from farandole.planning import Plan
    from farandole.spec import Job
    from farandole.sweeping.sweep import SweepResult
    from farandole.sweeping.trial import Trial
    from farandole.tracking.sync import SyncResult

_MAX_RANKS = 16
"""Workers that are shown one by one."""
_NO_R2 = 5e-5
"""An R2 below it is shown as 0."""
_IN_SENTENCE = frozenset({"train.epochs", "train.global_batch_size", "resources.cpus"})
"""Chosen fields whose values are in the sentence of a training: `for 8 epochs with 64 rows per step`."""
_PARENTS = re.compile(r"^(train\.optimizer|train|model\.options)\.|\.name$")
"""Parts of the paths of chosen fields that are not shown."""


def print_json(document: Any) -> None:
    """Print a result document on standard output."""
    print(json_text(document, indent=2))


# The pipeline -------------------------------------------------------------------------------------------------


def show_training(job_file: Path, job: Job, trained: TrainedModel, *, as_json: bool) -> None:
    """Show the result of `run` and `train`."""
    if as_json:
        print_json(trained.to_dict())
        return
    training, dataset = trained.training, trained.dataset
    console = make_console()
    print_text(console, f"{job.name}: {trained.model_uri or job.train.script}", style="bold")
    print_text(console, "")
    _show_metrics(training)
    print_text(console, "")
    gang = f"{format_count(training.workers, 'worker')}, {format_count(training.steps, 'step')}{_attempts(training)}"
    speed = f"{format_rate(training.rows_per_s)} ({gang})" if training.rows_per_s else gang
    rows = _judgement(trained) + ([("rows", _rows(dataset.rows))] if dataset is not None else [])
    rows.append(("speed", speed))
    if training.time_split:
        spent = [f"{_part(name)} {format_duration(value)}" for name, value in training.time_split.items()]
        rows.append(("time", ", ".join(spent)))
    if len(training.time_by_rank) > 1:
        rows.append(("time by worker", "\n".join(_rank_times(training.time_by_rank))))
    if training.straggler:
        slow = training.straggler
        text = f"worker {slow['rank']} computes {slow['excess_s']:.1f} s longer than the others, who wait for it"
        rows.append(("straggler", f"{text} ({slow['share']:.0%} of the time)"))
    if dataset is not None:
        rows.append(("shards", dataset.path + (" (reused)" if dataset.reused else "")))
    rows += [
        ("MLflow run", training.mlflow_run_id or unsent(trained.id)),
        ("job", str(trained.directory)),
        ("next", f"{command()} ui" + ("" if job.tracking.uri is None else f" {job_file}")),
    ]
    print_values(console, rows)


def _show_metrics(training: TrainingSummary) -> None:
    """Print a table with a row for each metric, and columns for the splits, the interval and the baselines."""
    splits = [split for split in ("test", "validation", "script") if training.metrics.get(split)]
    names = list(dict.fromkeys(name for split in splits for name in training.metrics[split]))
    if not names:
        is_script = "script" in training.metrics
        reason = "the script reported none (farandole.report)" if is_script else "there are no test or validation rows"
        print_text(make_console(), f"no metrics: {reason}")
        return
    intervals = training.evaluation.get("intervals", {}).get("test", {})
    baselines: dict[str, dict[str, float]] = training.evaluation.get("baselines", {})
    cells = {split: [_metric(name, training.metrics[split].get(name)) for name in names] for split in splits}
    if intervals:
        ends = [" to ".join(map(format_metric, intervals.get(name, ()))) for name in names]
        cells = {"test": cells.pop("test"), "95% interval": ends} | cells
    for baseline, metrics in baselines.items():
        title = {"hist_gradient_boosting": "boosting", "teacher": "teacher"}.get(baseline, "baseline")
        cells[title] = [_metric(name, metrics.get(name)) for name in names]
    columns = [Column("metric", style="bold"), *(Column(title, is_number=True) for title in cells)]
    print_table(make_console(), columns, [list(row) for row in zip(names, *cells.values(), strict=True)])


def _judgement(trained: TrainedModel) -> list[tuple[str, str]]:
    """Return rows about the baselines, the best epoch, and why a model is not registered."""
    training, rows = trained.training, []
    baselines = list(training.evaluation.get("baselines", ()))
    if baselines:
        meaning = {
            "teacher": "teacher: the model of train.distill",
            "mean": "baseline: the mean of the training rows",
            "prior": "baseline: the frequencies of the classes",
            "hist_gradient_boosting": "boosting: scikit-learn's HistGradientBoosting with its defaults",
        }
        rows.append(("compared with", "\n".join(text for name, text in meaning.items() if name in baselines)))
    if training.best_epoch is not None and training.epochs > 1:
        is_last_kept = training.best_epoch < training.epochs and training.weights_step == training.steps
        kept = "; the model has the weights of the last one" if is_last_kept else ""
        rows.append(("best epoch", f"{training.best_epoch} of {training.epochs}{kept}"))
    rows += [("note", note) for note in training.evaluation.get("notes", ())]
    if trained.not_registered is not None:
        text = f"no, it is not better than the baseline: {trained.not_registered}"
        rows.append(("registered", f"{text}; --register-anyway registers it"))
    return rows


def _metric(name: str, value: float | None) -> str:
    if value is None:
        return ""
    # Of the mean, as the baseline of a regression, R2 is 0 but for the difference between training and test rows.
    is_zero = name == "r2" and abs(value) < _NO_R2
    return format_metric(0.0 if is_zero else value)


def _attempts(training: TrainingSummary) -> str:
    return "" if training.attempts == 1 else f", attempt {training.attempts}"


def _part(name: str) -> str:
    """Return the name of a part of the time for people: `all-reduce wait` of `all_reduce_wait_s`."""
    return name.removesuffix("_s").replace("all_reduce", "all-reduce").replace("_", " ")


def _rank_times(ranks: list[dict[str, float]]) -> list[str]:
    """Return a line with the steps' time of each worker; the document has all parts of all workers."""
    parts = ("data_wait_s", "compute_s", "all_reduce_wait_s")
    lines = [
        f"{rank}: " + ", ".join(f"{_part(part)} {format_duration(times[part])}" for part in parts)
        for rank, times in enumerate(ranks[:_MAX_RANKS])
    ]
    return lines + ([f"and {len(ranks) - _MAX_RANKS} more"] if len(ranks) > _MAX_RANKS else [])


def show_dataset(job_file: Path, job: Job, prepared: PreparedDataset, *, as_json: bool) -> None:
    """Show the result of `prepare`."""
    document = prepared.to_dict()
    if as_json:
        print_json(document)
        return
    rows = [
        ("path", str(prepared.path) + (" (reused)" if prepared.reused else "")),
        ("digest", prepared.manifest.digest),
        ("rows", _rows(prepared.manifest.row_counts)),
    ]
    left_out = ", ".join(f"{count:,} of {source}" for source, count in document["left_out"].items() if count)
    if left_out:
        rows.append(("left out", f"{left_out}; see {command()} data inspect {prepared.path}"))
    then = f"train {job_file}" if job.model and job.data.label else f"data inspect {prepared.path}"
    rows.append(("next", f"{command()} {then}"))
    print_values(make_console(), rows, title="dataset")


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Show the result of `plan`, problems first."""
    if as_json:
        print_json(plan.to_dict())
        return
    from farandole.planning import TrainStep

    console = make_console()
    for problem in plan.problems:
        print_text(console, problem, indent=2, head=mark(console, ok=False))
    for number, step in enumerate(plan.steps, start=1):
        text = step.text if step.text.startswith(f"{step.stage} ") else f"{step.stage}: {step.text}"
        print_text(console, text, indent=3, head=Text(f"{number}.", style="bold"))
        if isinstance(step, TrainStep) and (chosen := _chosen(step.chosen or {})):
            origin = "auto, from an estimate of the rows" if step.steps is None else "auto"
            print_values(console, chosen, title=origin, indent=3)
    for each in plan.objects:
        print_text(console, f"   {each['kind']}/{each['metadata']['name']}", indent=5)
    if not plan.problems:
        is_read = any(step.stage == "guess" for step in plan.steps)
        text = "no problems found" + ("" if is_read else "; the data itself has not been read")
        print_text(console, text, indent=2, head=mark(console, ok=True))


def _chosen(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the chosen values that change something and that the step's sentence does not have, with short names."""
    return [
        (_PARENTS.sub("", field), rounded(value))
        for field, value in values.items()
        if field not in _IN_SENTENCE and value not in (None, False, 0)
    ]


def show_scaling(job_id: str, workers: int, *, as_json: bool) -> None:
    """Show the result of `scale`."""
    if as_json:
        print_json({"id": job_id, "workers": workers})
        return
    text = f"{job_id}: continues with {format_count(workers, 'worker')} from its next checkpoint on"
    print_text(make_console(), text, indent=2)


# Sweeps -------------------------------------------------------------------------------------------------------


def show_sweep(job: Job, result: SweepResult, *, as_json: bool) -> None:
    """Show the result of `sweep`: its trials, the best first."""
    if as_json:
        print_json(result.to_dict())
        return
    console = make_console()
    fields = list(result.best.values)
    columns = [Column("trial", is_named=True), Column(result.metric, is_number=True, is_named=True)]
    columns += [Column(name, is_number=True) for name in _short_names(fields)]
    columns += [Column("state"), Column("time", is_number=True)]
    rows = []
    for trial in _best_first(result):
        values = [
            "" if trial.value is None else rounded(trial.value),
            *(rounded(trial.values[name]) for name in fields),
        ]
        style = "bold green" if trial.number == result.best.number else ""
        cells = [str(trial.number), *values, trial.state, format_duration(trial.seconds)]
        rows.append([Text(cell, style=style) for cell in cells])
    title = f"{job.name}: {result.metric} on validation, {result.direction}"
    print_table(console, columns, rows, title=title, heads=2)
    print_text(console, "")
    next_command = f"{command()} run {result.best_file}"
    print_values(console, [("MLflow run", result.mlflow_run_id or unsent(result.id)), ("next", next_command)])


def _short_names(fields: Sequence[str]) -> list[str]:
    """Return the last parts of the names of fields, or whole names where these would be the same."""
    short = [field.rpartition(".")[2] for field in fields]
    return short if len(set(short)) == len(short) else list(fields)


def _best_first(result: SweepResult) -> list[Trial]:
    """Return the trials in order: complete before others, better before worse, without a value last."""
    sign = -1 if result.direction == "maximize" else 1

    def order(trial: Trial) -> tuple[bool, bool, float]:
        return trial.value is None, trial.state != "complete", sign * (trial.value or 0.0)

    return sorted(result.trials, key=order)


# Tools --------------------------------------------------------------------------------------------------------


def show_synced(results: Sequence[SyncResult], *, as_json: bool) -> None:
    """Show the result of `sync`."""
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    console = make_console()
    if not results:
        print_text(console, "nothing to send: MLflow has every record of every job")
        return
    columns = [Column("job", style="bold"), Column("sent", is_number=True), Column("waiting", is_number=True)]
    columns += [Column("MLflow run"), Column("model"), Column("store", is_text=True)]
    rows = []
    for result in results:
        store = result.store + (f": {result.problem}" if result.problem else "")
        counts = (f"{result.sent:,}", f"{result.unsent:,}")
        rows.append([result.id, *counts, result.mlflow_run_id or "", result.model_uri or "", store])
    print_table(console, columns, rows)


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Show the result of `doctor`."""
    if as_json:
        print_json({"findings": [finding.to_dict() for finding in findings]})
        return
    console = make_console()
    columns = [Column(""), Column("check", style="bold"), Column("found", is_text=True), Column("remedy", is_text=True)]
    rows: list[list[str | Text]] = [
        [mark(console, ok=each.ok), each.name, each.found, each.remedy] for each in findings
    ]
    print_table(console, columns, rows, heads=2)


# Words --------------------------------------------------------------------------------------------------------


def rounded(value: Any) -> str:
    """Return a value for people: numbers with four digits, lists without quotes."""
    if isinstance(value, float):
        return format_metric(value)
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def unsent(job_id: str) -> str:
    """Return what stands for the id of an MLflow run that does not exist yet."""
    return f"not created yet; `{command()} sync {job_id}` sends the records"


def command() -> str:
    """Return how the user can call this command again: by its name, or by its path where the name is not found."""
    return "farandole" if shutil.which("farandole") else sys.argv[0]


def _rows(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in rows.items())
