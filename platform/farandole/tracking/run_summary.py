"""Texts about a run for people who look at it in MLflow: its name, params and description, and its dataset."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from farandole.errors import SpecError
from farandole.events import format_metric
from farandole.jobdir.directory import load_job, previous_job
from farandole.jobdir.layout import sweeps_folder
from farandole.shards import Manifest
from farandole.spec import Job, non_default_content
from farandole.tracking.provenance import flatten
from farandole.tracking.run_link import RunLink

DIGEST_CHARACTERS = 8
"""Characters of a digest that people see, as git abbreviates commits."""
MAX_DESCRIPTION = 5000
"""Characters that MLflow's table of versions has for a description."""
_REST_OF_CARD = "\n… The rest is in `card.md` of the model's bundle: `farandole models card MODEL` shows it.\n"
_MAX_NAME_CHARACTERS = 70
_MAX_VALUE_CHARACTERS = 24
_MAX_PARAM_CHARACTERS = 500
_NOT_PARAMS = ("name", "folder", "tracking", "backend", "sweep", "serve")
"""Parts of a job that say where it runs and is recorded, not what it learns; the artifact has the whole job."""
_MLFLOW_TYPES = {
    "tinyint": "integer",
    "smallint": "integer",
    "int": "integer",
    "bigint": "long",
    "date": "datetime",
    "timestamp": "datetime",
    "timestamp_ntz": "datetime",
}
"""MLflow's types, where they have other names than the SQL types."""
_TRIAL = re.compile(r"-trial-(\d+)$")


def changed_params(job: Job) -> dict[str, str]:
    """Return the fields that differ from their defaults, by field path; features and sources take one param each."""
    content = non_default_content(job)
    content = {part: value for part, value in content.items() if part not in _NOT_PARAMS}
    data = dict(content.get("data", {}))
    data.pop("output", None)
    data["sources"] = {name: source.path for name, source in job.data.sources.items()}
    data["features"] = ", ".join(f"{name} ({feature.kind})" for name, feature in job.data.features.items())
    if job.data.label is not None:
        data["label"] = f"{job.data.label.column} ({job.data.label.kind})"
    flat = flatten({**content, "data": data})
    return {name: str(value)[:_MAX_PARAM_CHARACTERS] for name, value in flat.items() if value not in ("", "{}", None)}


def name_run(job: Job, directory: Path, link: RunLink) -> str:
    """Return a short name: when the run began, and what the command changed or what differs from the job before it.

    Args:
        job: The job.
        directory: Its directory.
        link: The link to its run, which knows the command, and the sweep that a trial belongs to.
    """
    trial = _TRIAL.search(job.name)
    label = time.strftime("%b %d %H:%M:%S", time.localtime(link.started_ms / 1000))
    if directory.parent == sweeps_folder():
        label = f"sweep {label}"
    if trial is not None and link.parent is not None:
        label = f"trial {trial[1]}"
        sweep = _load(Path(link.parent))
        changes = _swept_values(sweep, job) or _differences(sweep, job)
    else:
        changes = list(_overrides(link.command)) or _differences(previous_job(directory, job.name), job)
    name = " · ".join([label, *([", ".join(changes)] if changes else [])])
    return name if len(name) <= _MAX_NAME_CHARACTERS else f"{name[: _MAX_NAME_CHARACTERS - 1]}…"


def describe_run(
    job: Job,
    manifest: Manifest,
    command: str | None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Return the description of a run in Markdown.

    Args:
        job: The job.
        manifest: Its dataset.
        command: The command that started it, if it was one.
        metrics: Column of the table of results to metrics; None while the training runs.
    """
    result = ", ".join(f"{name} {format_metric(value)}" for name, value in ((metrics or {}).get("test") or {}).items())
    rows = ", ".join(f"{count:,} {split}" for split, count in manifest.row_counts.items() if count)
    lines = [f"- dataset: `{job.data.output}` ({manifest.digest[:DIGEST_CHARACTERS]}): {rows}"]
    if job.model is not None:
        lines.append(f"- model: `{job.model.builder}`")
    if job.data.label is not None:
        lines.append(f"- label: `{job.data.label.column}`, {job.data.label.kind}")
    if command is not None:
        lines.insert(0, f"- command: `{command.replace('`', '')}`")
    if result:  # first, since MLflow folds long descriptions
        lines[:0] = [f"**{result}** on the test split", ""]
    return "\n".join([*lines, "", *_metrics_table(metrics)]).strip() + "\n"


def describe_version(card: str, command: str | None) -> str:
    """Return the description of a registered version in Markdown: the card of its model, and what made it.

    Args:
        card: The card.
        command: The command that started the job, if it was one.
    """
    made_by = "" if command is None else f"\n- command: `{_cut(command.replace('`', ''), MAX_DESCRIPTION // 2)}`\n"
    room = MAX_DESCRIPTION - len(made_by)
    if len(card) > room:
        kept = card[: room - len(_REST_OF_CARD)]
        card = kept[: kept.rfind("\n") + 1] + _REST_OF_CARD
    return card + made_by


def runs_view(job: Job) -> str:
    """Return the view of an experiment's runs, in the form in which MLflow's UI shares one: metrics come first."""
    metrics = [f"metrics.`{split}.{name}`" for split in ("test", "validation") for name in job.metric_keys[:4]]
    params = [f"params.`{name}`" for name in ("train.epochs", "train.optimizer.learning_rate")]
    columns = [*metrics[:6], *params]
    return json.dumps({"orderByKey": "attributes.start_time", "orderByAsc": False, "selectedColumns": columns})


def describe_column(name: str, sql_type: str) -> dict[str, Any]:
    """Return a column in the form of MLflow's schemas."""
    if sql_type.startswith("array<"):
        items = {key: value for key, value in describe_column("", sql_type[6:-1]).items() if key in ("type", "items")}
        return {"type": "array", "items": items, "name": name, "required": False}
    kind = "double" if sql_type.startswith("decimal") else _MLFLOW_TYPES.get(sql_type, sql_type)
    return {"type": kind, "name": name, "required": False}


def _metrics_table(metrics: Mapping[str, Mapping[str, float]] | None) -> Iterator[str]:
    columns = {name: values for name, values in (metrics or {}).items() if values}
    if not columns:
        return
    yield f"| metric | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for metric in dict.fromkeys(name for values in columns.values() for name in values):
        shown = [format_metric(values[metric]) if metric in values else "" for values in columns.values()]
        yield f"| {metric} | {' | '.join(shown)} |"


def _overrides(command: str | None) -> Iterator[str]:
    """Yield the fields that a command sets with `--set`, each with the last part of its path."""
    try:
        words = shlex.split(command or "")
    except ValueError:
        return
    for word, following in itertools.pairwise([*words, ""]):
        text = following if word == "--set" else word.removeprefix("--set=") if word.startswith("--set=") else ""
        field, mark, value = text.partition("=")
        if mark:
            yield _shown(field, value)


def _differences(before: Job | None, job: Job) -> list[str]:
    """Return what differs from another job, in the order of the job file."""
    if before is None:
        return []
    old, new = changed_params(before), changed_params(job)
    return [
        _shown(field, new.get(field, "default"))
        for field in dict.fromkeys([*new, *old])
        if old.get(field) != new.get(field)
    ]


def _swept_values(sweep: Job | None, trial: Job) -> list[str]:
    """Return the values that the sweep has drawn: a trial's other fields have values in place of `auto`."""
    if sweep is None or sweep.sweep is None:
        return []
    document = trial.model_dump(mode="json")
    return [_shown(field, _value_at(document, field.split("."))) for field in sweep.sweep.space]


def _value_at(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document.get(part, "default") if isinstance(document, dict) else "default"
    return f"{document:.4g}" if isinstance(document, float) else document


def _shown(field: str, value: Any) -> str:
    text = _cut(" ".join(str(value).split()), _MAX_VALUE_CHARACTERS)
    return f"{field.rpartition('.')[2]}={text}"


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1].rstrip()}…"


def _load(directory: Path) -> Job | None:
    try:
        return load_job(directory)
    except (OSError, SpecError, ValueError):
        return None
