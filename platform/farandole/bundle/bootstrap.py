"""Confidence intervals of metrics, from resampled rows (Efron and Tibshirani 1993, "An Introduction to the Bootstrap").

A replicate gives each row a weight: how often it was drawn. All metrics are computed with weights, for many replicates
at once, so that the rows are sorted once. The cost is bounded: of a larger split, a sample of rows is resampled, and
the interval is narrowed by the square root of the sample's share (Politis and Romano 1994) and laid around the metric
of all rows.

Shapes: B rows, O outputs, C classes, R replicates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from farandole.shards import LabelColumn

REPLICATES = 300
MAX_ROWS = 10_000
"""Rows that are resampled: with 300 replicates, all metrics together take about a second of one core."""
_AT_ONCE = 50
"""Replicates that are in memory at the same time."""
_LEVEL = (2.5, 97.5)
_MAX_UNDEFINED = 0.05
"""Share of replicates in which a metric may be undefined (no row of a class was drawn)."""

WeightedMetric = Callable[[np.ndarray], np.ndarray]
"""Function from weights `[R, B]` to the metric of each replicate, `[R]`; NaN where it is undefined."""


def intervals(
    names: tuple[str, ...],
    outputs: np.ndarray,
    label: np.ndarray,
    column: LabelColumn,
    *,
    replicates: int = REPLICATES,
    max_rows: int | None = None,
) -> dict[str, list[float]]:
    """Return the ends of the 95% interval of each built-in metric that the rows define. The result is reproducible.

    Args:
        names: Names of the metrics.
        outputs: `[B, O]`; for regression in the label's own units.
        label: `[B]`.
        column: The label's column.
        replicates: How often the rows are drawn.
        max_rows: Number of rows that are drawn at most. Default: `MAX_ROWS`.
    """
    rows, max_rows = len(label), MAX_ROWS if max_rows is None else max_rows
    if rows < 2:
        return {}
    random = np.random.default_rng(0)
    outputs = outputs.astype(np.float64)
    everything, classes = weighted_metrics(names, outputs, label, column), occurring_classes(outputs, label, column)
    whole = {name: float(metric(np.ones((1, rows)))[0]) for name, metric in everything.items()}
    if rows > max_rows:
        chosen = np.sort(random.choice(rows, max_rows, replace=False))
        outputs, label = outputs[chosen], label[chosen]
    metrics = weighted_metrics(names, outputs, label, column, classes)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for _ in range(0, replicates, _AT_ONCE):
        weights = _draw(random, len(label))
        for name, metric in metrics.items():
            drawn[name].append(metric(weights))
    once, narrowing = np.ones((1, len(label))), min(1.0, max_rows / rows) ** 0.5
    found = {}
    for name, parts in drawn.items():
        values, center = np.concatenate(parts), float(metrics[name](once)[0])
        if np.isnan(center) or np.isnan(values).mean() > _MAX_UNDEFINED:
            continue
        ends = np.nanpercentile(values, _LEVEL)
        found[name] = [whole[name] + narrowing * (float(end) - center) for end in ends]
    return found


def _draw(random: np.random.Generator, rows: int) -> np.ndarray:
    """Draw rows with replacement; returns how often each was drawn, float64 `[R, B]`."""
    drawn = random.integers(0, rows, (_AT_ONCE, rows)) + rows * np.arange(_AT_ONCE)[:, None]
    return np.bincount(drawn.ravel(), minlength=_AT_ONCE * rows).reshape(_AT_ONCE, rows).astype(np.float64)


def occurring_classes(outputs: np.ndarray, label: np.ndarray, column: LabelColumn) -> np.ndarray:
    """Return the numbers of the classes that some of these rows have, or are predicted to have."""
    if column.kind == "regression":
        return np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate([label.astype(np.int64), _predicted(outputs, column)]))


def weighted_metrics(
    names: tuple[str, ...],
    outputs: np.ndarray,
    label: np.ndarray,
    column: LabelColumn,
    classes: np.ndarray | None = None,
) -> dict[str, WeightedMetric]:
    """Return the built-in metrics of these rows as functions of the rows' weights.

    Args:
        names: Names of the metrics; those that are functions of the user are left out.
        outputs: float64 `[B, O]`.
        label: `[B]`.
        column: The label's column.
        classes: The classes of which a mean is taken; it is undefined if one of them does not occur. Default: those
            that occur in these rows.
    """
    if column.kind == "regression":
        metrics = _regression_metrics(outputs[:, 0], label.astype(np.float64))
    else:
        classes = occurring_classes(outputs, label, column) if classes is None else classes
        metrics = _class_metrics(outputs, label.astype(np.int64), column, classes)
    return {name: metrics[name] for name in names if name in metrics}


def _regression_metrics(predicted: np.ndarray, label: np.ndarray) -> dict[str, WeightedMetric]:
    errors, centered = predicted - label, label - label.mean()
    squares, distances = errors**2, np.abs(errors)

    def r2(weights: np.ndarray) -> np.ndarray:
        total = weights @ centered**2 - (weights @ centered) ** 2 / weights.sum(axis=1)
        return _divide(total - weights @ squares, total)

    return {"rmse": lambda weights: np.sqrt(_mean(weights, squares)), "mae": lambda w: _mean(w, distances), "r2": r2}


def _predicted(outputs: np.ndarray, column: LabelColumn) -> np.ndarray:
    """Return the predicted class of each row."""
    predicted: np.ndarray = outputs[:, 0] > 0 if column.kind == "binary" else outputs.argmax(axis=1)
    return predicted.astype(np.int64)


def _class_metrics(
    outputs: np.ndarray, label: np.ndarray, column: LabelColumn, classes: np.ndarray
) -> dict[str, WeightedMetric]:
    if column.kind == "binary":
        signed = np.where(label == 1, outputs[:, 0], -outputs[:, 0])
        losses = np.logaddexp(0, -signed)
    else:
        high = outputs.max(axis=1, keepdims=True)
        norms = high[:, 0] + np.log(np.exp(outputs - high).sum(axis=1))
        losses = norms - outputs[np.arange(len(label)), label]
    predicted = _predicted(outputs, column)
    hits = (predicted == label).astype(np.float64)
    found: dict[str, WeightedMetric] = {
        "accuracy": lambda weights: _mean(weights, hits),
        "log_loss": lambda weights: _mean(weights, losses),
        "macro_f1": lambda weights: _macro_f1(weights, predicted, label, classes),
    }
    return found | _ranking_metrics(outputs[:, 0], label) if column.kind == "binary" else found


def _ranking_metrics(scores: np.ndarray, label: np.ndarray) -> dict[str, WeightedMetric]:
    """Return the metrics that depend on the order of the scores; rows with equal scores form one group."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    positive = (label[order] == 1).astype(np.float64)

    def grouped(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of the positive and of the negative rows of each group, best scores first."""
        ordered = weights[:, order]
        return tuple(np.add.reduceat(ordered * part, starts, axis=1) for part in (positive, 1 - positive))  # type: ignore[return-value]

    def roc_auc(weights: np.ndarray) -> np.ndarray:
        positives, negatives = grouped(weights)
        total = negatives.sum(axis=1, keepdims=True)
        below = total - np.cumsum(negatives, axis=1)
        return _divide((positives * (below + negatives / 2)).sum(axis=1), positives.sum(axis=1) * total[:, 0])

    def average_precision(weights: np.ndarray) -> np.ndarray:
        positives, negatives = grouped(weights)
        found = np.cumsum(positives, axis=1)
        precision = _divide(found, found + np.cumsum(negatives, axis=1))
        return _divide((positives * np.nan_to_num(precision)).sum(axis=1), found[:, -1])

    return {"roc_auc": roc_auc, "average_precision": average_precision}


def _macro_f1(weights: np.ndarray, predicted: np.ndarray, label: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the mean F1 of the classes; NaN where one of them was not drawn, since the others have another mean."""

    def count(values: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(values, row, int(classes.max()) + 1) for row in of])[:, classes]

    both = count(label, weights) + count(predicted, weights)
    f1 = _divide(2 * count(label, weights * (predicted == label)), both)  # NaN: the class does not occur
    mean: np.ndarray = f1.mean(axis=1)
    return mean


def _mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    mean: np.ndarray = weights @ values / weights.sum(axis=1)
    return mean


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is 0."""
    quotient: np.ndarray = np.divide(
        numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0
    )
    return quotient
