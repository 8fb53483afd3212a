"""Documents of a bundle, with all that is known of its model: statistics, metrics, lineage, and a card for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from farandole.bundle.statistics import training_statistics
from farandole.events import format_metric
from farandole.shards import Manifest
from farandole.spec import Job

STATISTICS, METRICS, LINEAGE, CARD = "statistics.json", "metrics.json", "lineage.json", "card.md"
_SHOWN_SLICES = 12


@dataclass(frozen=True)
class TrainingRecord:
    """A finished training, as far as its bundle describes it.

    Args:
        job: The job.
        manifest: The dataset.
        metrics: Split to metric to value.
        report: The report on the model: `baselines`, `intervals`, `classes`, `test_rows_digest`, `notes`.
        outputs: The network's outputs for the test split, `[rows, outputs]`, in the label's units for a regression.
        run_id: The MLflow run, if it exists yet.
        commit: The git commit of the job's folder.
    """

    job: Job
    manifest: Manifest
    metrics: Mapping[str, Mapping[str, float]]
    report: Mapping[str, Any] = field(default_factory=dict)
    outputs: np.ndarray | None = None
    run_id: str | None = None
    commit: str | None = None


def training_documents(record: TrainingRecord) -> dict[str, Any]:
    """Return the documents of a bundle that is written at the end of a training: file name to content."""
    return {
        STATISTICS: training_statistics(record.manifest, record.outputs),
        METRICS: _metrics(record),
        LINEAGE: _lineage(record),
        CARD: training_card(record),
    }


def training_card(record: TrainingRecord) -> str:
    """Return the card of the model of a training, in Markdown."""
    return write_card(record.job.name, _metrics(record), _lineage(record))


def _metrics(record: TrainingRecord) -> dict[str, Any]:
    """Return metrics with their intervals, baselines and figures by class."""
    intervals = record.report.get("intervals") or {}
    splits = {
        split: {
            name: {"value": value, **({"interval": ends} if (ends := intervals.get(split, {}).get(name)) else {})}
            for name, value in values.items()
        }
        for split, values in record.metrics.items()
        if values
    }
    kept = ("baselines", "classes", "test_rows_digest", "notes")
    return {**splits, "rows": record.manifest.row_counts, **{name: record.report.get(name) for name in kept}}


def _lineage(record: TrainingRecord) -> dict[str, Any]:
    """Return where the model comes from; the tracking server's address is left out, since bundles are given away."""
    job, manifest = record.job, record.manifest
    return {
        "mlflow_run_id": record.run_id,
        "git_commit": record.commit,
        "job": job.model_dump(mode="json", exclude={"folder", "tracking", "serve"}, exclude_defaults=True),
        "query": job.data.query,
        "dataset": {
            "path": str(job.data.output),
            "digest": manifest.digest,
            "rows": manifest.row_counts,
            "transform": manifest.transform,
            "split_rule": manifest.split_rule,
            "code_version": manifest.code_version,
        },
        "privacy": manifest.privacy,
        "sources": list(manifest.sources),
    }


def write_card(name: str, metrics: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    """Return the card of a model, in Markdown.

    Args:
        name: Name of the model.
        metrics: `metrics.json`.
        lineage: `lineage.json`.
    """
    return "\n".join(_card(name, metrics, lineage)).rstrip() + "\n"


def _card(name: str, metrics: Mapping[str, Any], lineage: Mapping[str, Any]) -> Iterator[str]:
    job = lineage.get("job") or {}
    label = (job.get("data") or {}).get("label") or {}
    model = job.get("model") or {}
    yield f"# {name}\n"
    if label:
        yield f"Predicts `{label.get('column')}` ({label.get('kind')}) with the network `{model.get('builder')}`.\n"
    yield "## Data\n"
    dataset = lineage.get("dataset") or {}
    rows = ", ".join(f"{count:,} {split}" for split, count in (dataset.get("rows") or {}).items() if count)
    yield f"- rows: {rows or 'unknown'}"
    yield f"- dataset: `{str(dataset.get('digest'))[:16]}`, from {len(lineage.get('sources') or [])} source files"
    protected = (lineage.get("privacy") or {}).get("columns") or {}
    if protected:
        yield f"- privacy policies were applied to {', '.join(f'`{column}`' for column in protected)}"
    yield ""
    yield from _metrics_section(metrics)
    yield from _slices_section(metrics.get("slices") or [])
    yield "## Limits\n"
    yield from (f"- {note}" for note in metrics.get("notes") or [])
    yield "- The metrics hold for rows like those of the test split; other times, places or groups may differ."
    yield "- A category that training did not see counts as unknown; a missing value is handled as in training."
    yield "- Nothing here says that a feature causes what the model predicts."


def _metrics_section(metrics: Mapping[str, Any]) -> Iterator[str]:
    splits = [split for split in ("test", "validation") if metrics.get(split)]
    if not splits:
        return
    baselines = metrics.get("baselines") or {}
    yield "## Metrics\n"
    columns = ["metric", "test", "95% interval", *splits[1:], *baselines]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for name in metrics[splits[0]]:
        entry = metrics[splits[0]][name]
        cells = [format_metric(entry["value"]), _interval(entry.get("interval"))]
        cells += [
            format_metric(metrics[split][name]["value"]) if name in metrics[split] else "" for split in splits[1:]
        ]
        cells += [format_metric(values[name]) if name in values else "" for values in baselines.values()]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _slices_section(slices: list[dict[str, Any]]) -> Iterator[str]:
    if not slices:
        return
    name = next(iter(slices[0]["metrics"]))
    yield f"## Where it is worst\n\nThe parts of the test split with the worst {name}; `metrics.json` has all.\n"
    yield f"| part | rows | {name} | 95% interval |"
    yield "|---|---|---|---|"
    for part in slices[:_SHOWN_SLICES]:
        entry = part["metrics"][name]
        cells = [part["part"], f"{part['rows']:,}", format_metric(entry["value"]), _interval(entry.get("interval"))]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _interval(ends: list[float] | None) -> str:
    return f"{format_metric(ends[0])} to {format_metric(ends[1])}" if ends else ""
