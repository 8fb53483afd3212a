"""Importance of raw columns over many rows: permutation importance, and the mean of integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from farandole.explaining.attributions import Attributions
from farandole.explaining.model import ExplainedModel, count_rows
from farandole.shards import LabelColumn
from farandole.spec import METRICS, is_function_reference
from farandole.spec.train import LOWER_IS_BETTER

REPEATS = 5
"""Permutations of each column."""


@dataclass(frozen=True)
class Metric:
    """A metric of a split.

    Args:
        name: Its name.
        compute: Function from outputs `[rows, outputs]` and label `[rows]`, for a regression in the label's own units,
            to its value; None where the rows do not define it.
        lower_is_better: Whether a lower value is better.
    """

    name: str
    compute: Callable[[np.ndarray, np.ndarray], float | None]
    lower_is_better: bool


@dataclass(frozen=True)
class Sample:
    """Rows of a split.

    Args:
        features: `{group: [rows, ...]}`.
        label: As in shards, `[rows]`; None: the rows have none, so that nothing can be measured.
        origin: What the rows are, in words.
    """

    features: dict[str, np.ndarray]
    label: np.ndarray | None
    origin: str

    @property
    def rows(self) -> int:
        """The number of rows."""
        return count_rows(self.features)


def permute_column(
    model: ExplainedModel, sample: Sample, column: str, metric: Metric, base: float, *, repeats: int, seed: int
) -> dict[str, Any]:
    """Measure how much worse the metric is where the values of a raw column are shuffled among the rows.

    All values that the column becomes move together: permutation importance (Breiman 2001, section 10; Fisher et al.
    2019, "All Models are Wrong, but Many are Useful").

    Args:
        model: The model.
        sample: The rows, with their label.
        column: The raw column.
        metric: The metric.
        base: The metric of the rows as they are.
        repeats: Number of permutations.
        seed: Seed of the permutations; the same for all columns.

    Returns:
        `mean` and `deviation` of the loss (positive: the column helps), and its `values`.
    """
    assert sample.label is not None, "the rows have no label"
    losses = []
    for repeat in range(repeats):
        order = np.random.default_rng([seed, repeat]).permutation(sample.rows)
        shuffled = dict(sample.features)
        for part in model.columns.of(column):
            shuffled[part.group.name] = shuffled[part.group.name].copy()
        model.columns.replace(shuffled, column, {name: values[order] for name, values in sample.features.items()})
        value = measure(model, shuffled, sample.label, metric)
        if value is not None:
            losses.append(value - base if metric.lower_is_better else base - value)
    return {"mean": float(np.mean(losses)), "deviation": float(np.std(losses)), "values": losses}


def measure(model: ExplainedModel, features: dict[str, np.ndarray], label: np.ndarray, metric: Metric) -> float | None:
    """Return the metric of rows, for a regression in the label's own units."""
    outputs = model.outputs(features)
    if model.label.kind == "regression":
        return metric.compute(model.label.in_units(outputs), model.label.in_units(label))
    return metric.compute(outputs, label)


def mean_attributions(found: Attributions) -> dict[str, dict[str, float]]:
    """Return the mean attribution of each raw column, the mean of its size, and its share of all columns' sizes."""
    sizes = {column: float(np.abs(values).mean()) for column, values in found.columns.items()}
    total = sum(sizes.values())
    return {
        column: {
            "mean_size": sizes[column],
            "mean": float(found.columns[column].mean()),
            "share": sizes[column] / total if total else 0.0,
        }
        for column in sizes
    }


def named_metric(name: str | None, label: LabelColumn) -> Metric:
    """Return a built-in metric, computed by scikit-learn.

    Args:
        name: The name; None, and the name of a user's function, mean the first metric that suits the label.
        label: The label's column.
    """
    if name is None or is_function_reference(name):
        name = METRICS[label.kind][0]
    return Metric(name, lambda outputs, true: _compute(name, outputs, true, label), name in LOWER_IS_BETTER)


def _compute(name: str, outputs: np.ndarray, true: np.ndarray, label: LabelColumn) -> float | None:
    from sklearn import metrics

    if label.kind == "regression":
        function = {"rmse": metrics.root_mean_squared_error, "mae": metrics.mean_absolute_error, "r2": metrics.r2_score}
        return float(function[name](true, outputs[:, 0]))
    logits = outputs.astype(np.float64)
    both = np.concatenate([np.zeros_like(logits), logits], axis=1) if label.kind == "binary" else logits
    if name == "accuracy":
        return float((both.argmax(axis=1) == true).mean())
    if name == "macro_f1":
        return float(metrics.f1_score(true, both.argmax(axis=1), average="macro", zero_division=0))
    if name == "log_loss":
        logs = both - np.logaddexp.reduce(both, axis=1, keepdims=True)
        return float(-logs[np.arange(len(true)), true.astype(int)].mean())
    if len(np.unique(true)) < 2:
        return None
    function = {"roc_auc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}
    return float(function[name](true, logits[:, 0]))
