"""Metrics of parts of the test split: the rows of a category, or of a quarter of a number's values.

A model that is good on the whole may be bad for some rows. A part is found in the features of the shards, so that
neither Spark nor the sources are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from farandole.bundle.bootstrap import MAX_ROWS, intervals, weighted_metrics
from farandole.preprocess import Preprocessing
from farandole.shards import LabelColumn
from farandole.spec.train import LOWER_IS_BETTER

MIN_ROWS = 50
"""Parts with fewer rows are left out: their metrics would mean little."""
_MAX_CATEGORIES = 20
_QUARTERS = 4
_FIRST_ID = 2
"""The first id of a vocabulary: 0 is unknown and 1 missing."""
_RESAMPLED_ROWS = 2000
"""Rows of a part that are drawn again: a table may have a hundred parts."""


def measure(
    names: tuple[str, ...],
    outputs: np.ndarray,
    label: np.ndarray,
    column: LabelColumn,
    replicates: int,
    max_rows: int = MAX_ROWS,
) -> dict[str, dict[str, Any]]:
    """Return metrics with their 95% intervals: name to `value` and `interval`.

    Args:
        names: Names of the metrics.
        outputs: `[rows, outputs]`, in the label's units for a regression.
        label: `[rows]`, in the same units.
        column: The label's column.
        replicates: How often the rows are drawn again.
        max_rows: Rows that are drawn again at most: see `farandole.bundle.bootstrap`.
    """
    once = np.ones((1, len(label)))
    metrics = weighted_metrics(names, outputs.astype(np.float64), label, column)
    values = {name: float(metric(once)[0]) for name, metric in metrics.items()}
    ends = intervals(names, outputs, label, column, replicates=replicates, max_rows=max_rows)
    return {
        name: {"value": value, **({"interval": ends[name]} if name in ends else {})}
        for name, value in values.items()
        if np.isfinite(value)
    }


def measure_slices(
    names: tuple[str, ...],
    features: dict[str, np.ndarray],
    outputs: np.ndarray,
    label: np.ndarray,
    preprocessing: Preprocessing,
    replicates: int,
) -> list[dict[str, Any]]:
    """Return the metrics of the parts of a split, the worst ones first.

    Args:
        names: Names of the metrics; the first one decides about the order.
        features: Features of the split, `{group: [rows, ...]}`.
        outputs: `[rows, outputs]`, in the label's units for a regression.
        label: `[rows]`, in the same units.
        preprocessing: The fitted preprocessing.
        replicates: How often the rows are drawn again.

    Returns:
        For each part `part`, `feature`, `rows` and `metrics`.
    """
    found, target = [], preprocessing.schema.target
    for feature, part, rows in _parts(features, preprocessing):
        if rows.sum() < MIN_ROWS:
            continue
        metrics = measure(names, outputs[rows], label[rows], target, replicates, _RESAMPLED_ROWS)
        if metrics:
            found.append({"part": part, "feature": feature, "rows": int(rows.sum()), "metrics": metrics})
    return sorted(found, key=lambda entry: _badness(names, entry["metrics"]), reverse=True)


def _badness(names: tuple[str, ...], metrics: dict[str, dict[str, Any]]) -> float:
    name = next((name for name in names if name in metrics), None)
    if name is None:
        return -np.inf
    value = float(metrics[name]["value"])
    return value if name in LOWER_IS_BETTER else -value


def _parts(features: dict[str, np.ndarray], preprocessing: Preprocessing) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield feature, name of the part, and its rows as bool `[rows]`."""
    vocabularies = {transform.name: getattr(transform, "vocabulary", None) for transform in preprocessing.transforms}
    for group in preprocessing.schema.groups:
        for index, feature in enumerate(group.features):
            if group.kind == "ids" and group.cardinalities[index] <= _MAX_CATEGORIES + _FIRST_ID:
                yield from _categories(feature, features[group.name][:, index], vocabularies.get(feature))
            elif group.kind == "numbers":
                yield from _quarters(feature, features[group.name][:, index])


def _categories(
    feature: str, ids: np.ndarray, vocabulary: tuple[str, ...] | None
) -> Iterator[tuple[str, str, np.ndarray]]:
    for number in np.unique(ids).tolist():
        if vocabulary is None:
            name = f"{feature} = number {number}"
        elif number < _FIRST_ID:
            name = f"{feature} {('unknown', 'missing')[number]}"
        else:
            name = f"{feature} = {vocabulary[number - _FIRST_ID]}"
        yield feature, name, ids == number


def _quarters(feature: str, numbers: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    bounds = np.unique(np.quantile(numbers, np.linspace(0, 1, _QUARTERS + 1)))
    if len(bounds) != _QUARTERS + 1:  # few distinct values
        return
    quarters = np.searchsorted(bounds[1:-1], numbers, side="right")
    for quarter in range(_QUARTERS):
        yield feature, f"{feature}: {('lowest', 'second', 'third', 'highest')[quarter]} quarter", quarters == quarter
