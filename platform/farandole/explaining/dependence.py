"""Partial dependence: the mean prediction where one raw column has the same value in all rows (Friedman 2001)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.explaining.importance import Sample
from farandole.explaining.model import ExplainedModel, take_rows
from farandole.preprocess.bucket import BucketTransform
from farandole.preprocess.categorical import HashTransform, VocabularyTransform
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.times import TimeNumbersTransform, TimeTransform
from farandole.preprocess.transform import Transform
from farandole.shards import LabelColumn

POINTS = 20
"""Values of a column; of a category, its most frequent ones."""
ROWS = 200
"""Rows that predictions are averaged over."""
_MAX_CLASSES = 10
_QUANTILES = np.linspace(0.02, 0.98, POINTS)


def partial_dependence(model: ExplainedModel, sample: Sample, column: str) -> dict[str, Any] | None:
    """Return the mean prediction for each of some values of a raw column.

    Returns:
        `kind` (`number`, `category` or `time`) and `points`: `value`, and for each curve its mean with the tenth and
        the ninetieth percentile over the rows. None if the column has no values that could be varied, or the
        statistics of its values are unknown.
    """
    parts = model.columns.of(column)
    kind = _kind(parts[0].transform)
    grid = _grid(kind, model.statistics.get(column, {}), model.columns.raw_type(column)) if kind else None
    if grid is None or not grid:
        return None
    try:
        values = pa.array(grid).cast(model.columns.raw_type(column), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    rows = take_rows(sample.features, slice(0, ROWS))
    new = {part.group.name: np.zeros((len(grid), *part.group.shape), part.group.dtype) for part in parts}
    for part in parts:
        (made,) = part.transform.arrays(values).values()
        part.of(new[part.group.name])[...] = made
    points = []
    for number, value in enumerate(values.to_pylist()):
        changed = {name: each.copy() if name in new else each for name, each in rows.items()}
        model.columns.replace(changed, column, {name: each[number : number + 1] for name, each in new.items()})
        curves = prediction_curves(model.outputs(changed), model.label)
        points.append({"value": _plain(value), **{name: _spread(each) for name, each in curves.items()}})
    return {"kind": kind, "points": points}


def prediction_curves(outputs: np.ndarray, label: LabelColumn) -> dict[str, np.ndarray]:
    """Return what a person calls the prediction: values, or probabilities of classes (of two, the positive one)."""
    if label.kind == "regression":
        return {label.column: label.in_units(outputs[:, 0])}
    scores = outputs.astype(np.float64)
    if label.kind == "binary":
        return {label.classes[-1]: np.exp(-np.logaddexp(0, -scores[:, 0]))}
    logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return {name: np.exp(logs[:, index]) for index, name in enumerate(label.classes[:_MAX_CLASSES])}


def _kind(transform: Transform) -> str | None:
    if isinstance(transform, NumericTransform | BucketTransform):
        return "number"
    if isinstance(transform, VocabularyTransform | HashTransform):
        return "category"
    return "time" if isinstance(transform, TimeTransform | TimeNumbersTransform) else None


def _grid(kind: str, statistics: Mapping[str, Any], raw_type: pa.DataType) -> list[Any] | None:
    """Return values from the statistics of the training rows; None if they are not known."""
    if kind == "number":
        return _number_grid(statistics, raw_type)
    if kind == "category":
        return [value for value, _ in statistics.get("most_frequent", ())][:POINTS] or None
    if "earliest" not in statistics:
        return None
    first, last = (datetime.datetime.fromisoformat(statistics[key]) for key in ("earliest", "latest"))
    return [first + (last - first) * (number / (POINTS - 1)) for number in range(POINTS)]


def _number_grid(statistics: Mapping[str, Any], raw_type: pa.DataType) -> list[Any] | None:
    """Return quantiles of a column's histogram."""
    histogram = statistics.get("histogram")
    if not histogram:
        return None
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"], dtype=np.float64)
    if not counts.sum():
        return None
    shares = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    values = np.interp(_QUANTILES, shares, edges)
    if pa.types.is_integer(raw_type) or (raw_type == pa.string() and (values == np.round(values)).all()):
        values = np.round(values)
    if pa.types.is_boolean(raw_type):
        return [False, True]
    return list(dict.fromkeys(values.tolist()))


def _spread(values: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(values, [10, 90])
    return {"mean": float(values.mean()), "p10": float(low), "p90": float(high)}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value
