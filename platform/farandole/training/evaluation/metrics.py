"""Metrics of a whole split for each kind of label.

Shapes: B rows, O outputs, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from farandole.shards import LabelColumn
from farandole.spec import Job, is_function_reference, metric_key
from farandole.training.evaluation import ranking
from farandole.training.losses import loss_function
from farandole.training.model_builder import import_user_function, user_code_error

SplitMetric = Callable[[torch.Tensor, torch.Tensor], Any]
"""Function from outputs `[B, O]` and label `[B]` of a whole split to a number."""

RANKING_METRICS = frozenset({"roc_auc", "average_precision"})
"""Metrics that depend on the order of rows alone; they need rows of both classes."""
FALLBACK_METRIC = "log_loss"
"""The metric that takes the place of one that a split does not define."""

_METRICS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "roc_auc": ranking.roc_auc,
    "average_precision": ranking.average_precision,
    "rmse": lambda scores, label: (scores - label).square().mean().sqrt(),
    "mae": lambda scores, label: (scores - label).abs().mean(),
    "r2": lambda scores, label: _r2(scores, label),
}


def _r2(scores: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the share of the label's variance that is explained.

    The sums are of deviations from the mean: torchmetrics subtracts sums of squares, which for times in seconds since
    1970 leaves no correct digit.
    """
    unexplained, total = (scores - label).square().sum(), (label - label.mean()).square().sum()
    return 1 - unexplained / total if total > 0 else (unexplained == 0).double()


def predictions(outputs: torch.Tensor, label: LabelColumn) -> torch.Tensor:
    """Convert outputs to predictions.

    Returns:
        Probabilities of the positive class `[B]` or of all classes `[B, C]`, or values `[B]` in the units of the
        outputs.
    """
    if label.kind == "binary":
        return outputs.squeeze(1).sigmoid()
    if label.kind == "multiclass":
        return outputs.softmax(1)
    return outputs.squeeze(1)


def predicted_classes(scores: torch.Tensor) -> torch.Tensor:
    """Convert probabilities of the positive class `[B]` or of all classes `[B, C]` to classes `[B]`."""
    return (scores > 0.5).int() if scores.ndim == 1 else scores.argmax(1)


def class_figures(outputs: torch.Tensor, label: torch.Tensor, column: LabelColumn) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and rows of each class; a precision or recall of no rows is 0.

    Args:
        outputs: `[B, O]`.
        label: `[B]`.
        column: The label's column.
    """
    predicted, label = predicted_classes(predictions(outputs, column)).long(), label.long()
    rows, found = (torch.bincount(values, minlength=len(column.classes)) for values in (label, predicted))
    hits = torch.bincount(label[predicted == label], minlength=len(column.classes))
    return {
        name: {
            "precision": hit / max(1, chosen),
            "recall": hit / max(1, true),
            "f1": 2 * hit / max(1, chosen + true),
            "rows": true,
            "predicted": chosen,
        }
        for name, hit, chosen, true in zip(column.classes, hits.tolist(), found.tolist(), rows.tolist(), strict=True)
    }


def macro_f1(figures: dict[str, dict[str, float]]) -> float:
    """Return the mean F1 of the classes that occur or are predicted, all with the same weight."""
    found = [figure["f1"] for figure in figures.values() if figure["rows"] or figure["predicted"]]
    return sum(found) / max(1, len(found))


def metric_functions(job: Job) -> dict[str, SplitMetric]:
    """Import the user's own metrics.

    Raises:
        ModelError: One of them cannot be imported.
    """
    return {
        name: import_user_function(name, job.folder, "train.metrics")
        for name in job.metrics
        if is_function_reference(name)
    }


def compute_metrics(
    names: tuple[str, ...],
    outputs: torch.Tensor,
    label: torch.Tensor,
    column: LabelColumn,
    user_metrics: dict[str, SplitMetric] | None = None,
) -> dict[str, float]:
    """Compute the metrics of a whole split. Leaves out those that it does not define (the ROC of a single class).

    Args:
        names: Names of the metrics.
        outputs: `[B, O]`, of all ranks; for regression in the label's own units.
        label: `[B]`.
        column: The label's column.
        user_metrics: The user's own metrics, by name.

    Raises:
        ModelError: A metric of the user raises, or returns something that is not a number.
    """
    if not len(label):
        return {}
    outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
    scores = predictions(outputs, column)
    computed: dict[str, float] = {}
    for name in names:
        if user_metrics and name in user_metrics:
            computed[metric_key(name)] = _compute_user_metric(user_metrics[name], outputs, label, name)
            continue
        if name in RANKING_METRICS and len(torch.unique(label)) < 2:
            continue
        if name == "r2" and len(label) < 2:
            continue
        if name == "log_loss":
            value = loss_function("auto", column)(outputs, label).double().mean()
        elif name == "accuracy":
            value = (predicted_classes(scores) == label).double().mean()
        elif name == "macro_f1":
            value = torch.tensor(macro_f1(class_figures(outputs, label, column)))
        elif name in RANKING_METRICS:
            value = _METRICS[name](_to_ranks(outputs.squeeze(1)), label)
        else:
            value = _METRICS[name](scores, label)
        computed[name] = float(value)
    return computed


def measure(
    job: Job,
    outputs: torch.Tensor,
    label: torch.Tensor,
    column: LabelColumn,
    user_metrics: dict[str, SplitMetric] | None = None,
) -> dict[str, float]:
    """Compute the metrics of the job; also `FALLBACK_METRIC` where a split of a single class leaves one out."""
    found = compute_metrics(job.metrics, outputs, label, column, user_metrics)
    if all(name in found for name in job.metrics if name in RANKING_METRICS):
        return found
    return found | compute_metrics((FALLBACK_METRIC,), outputs, label, column)


def _compute_user_metric(function: SplitMetric, outputs: torch.Tensor, label: torch.Tensor, name: str) -> float:
    try:
        return float(function(outputs, label))
    except Exception as error:
        raise user_code_error(error, f"train.metrics: {name}") from error


def _to_ranks(logits: torch.Tensor) -> torch.Tensor:
    """Return the order of the logits as float64 in [0, 1]: confident probabilities would all round to 1."""
    values, positions = torch.unique(logits, return_inverse=True)
    ranks: torch.Tensor = positions.double() / max(1, len(values) - 1)
    return ranks
