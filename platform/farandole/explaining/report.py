"""The explanation of a whole model, as one document of plain numbers, within a bounded time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from farandole.events import format_count
from farandole.explaining.attributions import Explainer, Explanation, unit_name
from farandole.explaining.dependence import partial_dependence
from farandole.explaining.importance import REPEATS, Metric, Sample, mean_attributions, measure, permute_column
from farandole.explaining.layers import attribute_layers, summarise_activations
from farandole.explaining.model import ExplainedModel, take_rows

FORMAT_VERSION = 1
_ATTRIBUTED_VALUES = 2**22
"""Numbers of the inputs of all rows that attributions are averaged over: 1,000 rows of a table, 30 large pictures."""
_INSIDE_ROWS = 256
_SINGLE_ROWS = 8


@dataclass(frozen=True)
class Limits:
    """Bounds of the cost of an explanation.

    Args:
        rows: Rows of the sample at most.
        repeats: Permutations of each column.
        seconds: Seconds after which no further part is started; what is left out is listed.
        seed: Seed of the permutations.
        shows_rows: Whether pictures and texts of single rows may be in the result.
    """

    rows: int = 1000
    repeats: int = REPEATS
    seconds: float = 60.0
    seed: int = 0
    shows_rows: bool = True


@dataclass(frozen=True)
class ShownRow:
    """A row that is shown with its explanation.

    Args:
        explanation: The explanation.
        pixels: Column of images to the picture, uint8 `[height, width, channels]`.
    """

    explanation: Explanation
    pixels: dict[str, np.ndarray]


@dataclass
class Report:
    """The explanation of a model.

    Args:
        document: All numbers, as plain data.
        rows: Single rows with pictures or texts.
    """

    document: dict[str, Any]
    rows: list[ShownRow] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """A line with what was explained, and how long it took."""
        skipped = len(self.document["skipped"])
        parts = f", without {format_count(skipped, 'part')}" if skipped else ""
        return f"{self.document['rows']:,} {self.document['origin']} in {self.document['seconds']:.1f} s{parts}"


class _Clock:
    """The time that is left, and the parts that there was none for."""

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        self._seconds = seconds
        self.skipped: list[str] = []

    @property
    def passed(self) -> float:
        return time.monotonic() - self._start

    def run(self, part: str, compute: Callable[[], Any]) -> Any:
        """Return the result of a part; None if the time is over."""
        if self.passed < self._seconds:
            return compute()
        self.skipped.append(part)
        return None


def explain_model(
    model: ExplainedModel, sample: Sample, metric: Metric, limits: Limits, *, name: str = "model"
) -> Report:
    """Explain a model by a sample of rows that it was not trained on.

    Args:
        model: The model.
        sample: The rows; the first ones are used, since rows of a split are in no particular order.
        metric: The metric that permutations are measured by.
        limits: What it may cost.
        name: The model's name.

    Raises:
        ModelError: The network cannot be followed.
        UnavailableError: Captum is not installed.
    """
    clock = _Clock(limits.seconds)
    explainer = Explainer(model)
    rows = slice(0, limits.rows)
    label = None if sample.label is None else sample.label[rows]
    sample = Sample(take_rows(sample.features, rows), label, sample.origin)
    columns = {column: _describe(model, explainer, column) for column in model.columns.columns}
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "model": name,
        "builder": model.builder,
        "rows": sample.rows,
        "origin": sample.origin,
        "unit": unit_name(model.label),
        "metric": metric.name,
        "score": None,
        "repeats": limits.repeats,
        "seed": limits.seed,
    }
    completeness = clock.run("attributions", lambda: _attribute(model, explainer, sample, columns))
    _permute(model, sample, metric, limits, clock, columns, document)
    for column, entry in columns.items():
        compute = functools.partial(partial_dependence, model, sample, column)
        entry["dependence"] = clock.run(f"dependence of {column}", compute)
    inside = take_rows(sample.features, slice(0, _INSIDE_ROWS))
    document |= {
        "completeness": completeness,
        "columns": columns,
        "activations": clock.run("activations", lambda: summarise_activations(model, inside)),
        "layers": clock.run("layers", lambda: attribute_layers(model, inside, explainer.baseline.features)),
    }
    shown = clock.run("single rows", lambda: _show_rows(model, explainer, sample)) if limits.shows_rows else []
    document["single_rows"] = [
        {key: value for key, value in row.explanation.to_dict().items() if key != "pixels"} for row in shown or []
    ]
    document |= {"skipped": clock.skipped, "seconds": round(clock.passed, 2)}
    return Report(document, shown or [])


def _describe(model: ExplainedModel, explainer: Explainer, column: str) -> dict[str, Any]:
    kinds = dict.fromkeys(part.transform.spec.kind for part in model.columns.of(column))
    return {"kind": ", ".join(kinds), "baseline": explainer.baseline.meaning.get(column, "")}


def _attribute(
    model: ExplainedModel, explainer: Explainer, sample: Sample, columns: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Add the mean attributions to the columns; return how well they add up."""
    size = max(1, sum(group.size for group in model.schema.groups))
    features = take_rows(sample.features, slice(0, max(_SINGLE_ROWS, _ATTRIBUTED_VALUES // (size * explainer.steps))))
    found = explainer.attribute(features, refine=False)
    for column, means in mean_attributions(found).items():
        columns[column]["attribution"] = means
    gaps, differences = np.abs(found.deltas), np.abs(found.outputs - found.baseline_outputs)
    return {
        "rows": len(gaps),
        "steps": explainer.steps,
        "mean_gap": float(gaps.mean()),
        "largest_gap": float(gaps.max()),
        "mean_difference": float(differences.mean()),
    }


def _permute(
    model: ExplainedModel,
    sample: Sample,
    metric: Metric,
    limits: Limits,
    clock: _Clock,
    columns: dict[str, dict[str, Any]],
    document: dict[str, Any],
) -> None:
    """Add the permutation importance to the columns, and the metric to the document."""
    if sample.label is None:
        clock.skipped.append("permutation importance: the rows have no label")
        return
    score = measure(model, sample.features, sample.label, metric)
    document["score"] = score
    if score is None:
        clock.skipped.append(f"permutation importance: the rows do not define {metric.name}")
        return
    for column, entry in columns.items():
        compute = functools.partial(
            permute_column, model, sample, column, metric, score, repeats=limits.repeats, seed=limits.seed
        )
        entry["permutation"] = clock.run(f"permutation of {column}", compute)


def _show_rows(model: ExplainedModel, explainer: Explainer, sample: Sample) -> list[ShownRow]:
    """Explain a few rows with pictures or texts."""
    pictures = [part for part in model.columns.parts if part.group.kind == "image"]
    if not pictures and not any(part.group.kind == "tokens" for part in model.columns.parts):
        return []
    features = take_rows(sample.features, slice(0, _SINGLE_ROWS))
    return [
        ShownRow(explanation, {part.column: features[part.group.name][row] for part in pictures})
        for row, explanation in enumerate(explainer.explain_features(features))
    ]
