"""Judgement of a trained model: whether it beats the trivial baseline, why it may not, and whether it over-fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farandole.events import format_metric
from farandole.spec import METRICS, Job, is_function_reference, metric_direction
from farandole.training.evaluation.baselines import BOOSTING, MEAN

MIN_ROWS = 10
"""Fewer test rows decide nothing."""
_FEW_STEPS = 200
_NOT_LEARNED = 0.97
"""Share of the trivial baseline's training loss above which a network has learned nothing worth mentioning."""
_DIVERGED, _EXPLODED = 1.2, 10.0
"""Multiples of the trivial baseline's training loss. In the first steps, that of random weights is up to 10."""
_TOO_HIGH = "the learning rate is too high ({}); lower train.optimizer.learning_rate"
_WORSE = 0.1
"""Relative rise of an error since its lowest value that is pointed out."""
_EXTREME = 10.0
"""Multiple of the range of the middle half of the labels, beyond which a label is extreme."""
_TRIVIAL = {MEAN: "predicting the mean", "prior": "predicting the frequencies of the classes"}


@dataclass(frozen=True)
class Evidence:
    """Known facts about a training.

    Args:
        steps: Optimizer steps.
        train_loss: The last training loss; None if none was logged.
        trivial_loss: The training loss of the trivial baseline; None if the loss is the user's own.
        label_problem: Why no network would learn these labels; None if nothing is wrong with them.
    """

    steps: int
    train_loss: float | None
    trivial_loss: float | None
    label_problem: str | None = None


def find_label_problem(labels: np.ndarray) -> str | None:
    """Describe labels of a regression that are all the same, or of which a few have the most weight.

    Args:
        labels: Labels of training rows, in the units of their column.
    """
    low, middle, high = np.percentile(labels, [25, 50, 75])
    if labels.min() == labels.max():
        return f"every label is {format_metric(float(middle))}; correct the query or the label"
    reach = _EXTREME * (high - low)
    extreme = np.abs(labels - middle) > reach
    if not reach or not extreme.any() or labels.std() <= reach:
        return None
    furthest = float(labels[np.abs(labels - middle).argmax()])
    return (
        f"{int(extreme.sum())} of {len(labels)} labels are extreme, as far from the others as"
        f" {format_metric(furthest)} where half of them lie between {format_metric(float(low))} and"
        f" {format_metric(float(high))}, so that a squared error follows them alone; set train.loss: huber or mae, or"
        " data.label.transform: log, or filter them out in the query"
    )


def gate_metric(job: Job) -> str:
    """Return the metric by which a model is compared with the trivial baseline: the first built-in one of the job.

    The accuracy of a model that weights its classes may well be lower than the share of the largest class.
    """
    kind = job.data.label.kind if job.data.label else "regression"
    built_in = [name for name in job.metrics if not is_function_reference(name)]
    first = built_in[0] if built_in else METRICS[kind][0]
    return "macro_f1" if first == "accuracy" and job.train.class_weights is not None else first


def is_better(metric: str, value: float, than: float) -> bool:
    """Return whether a value of a built-in metric is better than another; NaN is not."""
    return value < than if metric_direction(metric, None, "train.metrics") == "min" else value > than


def explain_failure(
    metric: str, name: str, model: dict[str, float], baselines: dict[str, dict[str, float]], evidence: Evidence
) -> str | None:
    """Explain why a model is not worth being registered; returns None if it beats the trivial baseline.

    Args:
        metric: The metric to compare.
        name: The trivial baseline's name.
        model: The model's metrics on the test split.
        baselines: Metrics on the test split of each baseline, by name.
        evidence: What is known about the training.
    """
    trivial = baselines.get(name, {})
    if metric not in trivial or metric not in model or is_better(metric, model[metric], trivial[metric]):
        return None
    found, limit = format_metric(model[metric]), format_metric(trivial[metric])
    comparison = f"on the test rows its {metric} is {found}, and {_TRIVIAL[name]} has {limit}"
    return f"{comparison}; the likely cause: {_find_cause(metric, trivial[metric], baselines, evidence)}"


def _find_cause(metric: str, trivial: float, baselines: dict[str, dict[str, float]], evidence: Evidence) -> str:
    if evidence.label_problem is not None:
        return evidence.label_problem
    boosting = baselines.get(BOOSTING, {}).get(metric)
    if boosting is not None and not is_better(metric, boosting, trivial):
        return (
            "the features say little about the label, since HistGradientBoosting is not better either; add columns that"
            " do, and check that each row has its own label"
        )
    loss, limit = evidence.train_loss, evidence.trivial_loss
    if loss is None or limit is None:
        return "too few steps, a learning rate that does not suit the loss, or over-fitting"
    losses = f"training loss {format_metric(loss)}, that of the baseline {format_metric(limit)}"
    if not loss <= _EXPLODED * limit:  # also NaN
        return _TOO_HIGH.format(losses)
    if loss > _NOT_LEARNED * limit and evidence.steps < _FEW_STEPS:
        return (
            f"{evidence.steps} steps were too few to learn anything ({losses}); use more train.epochs, or a smaller"
            " train.global_batch_size"
        )
    if loss > _DIVERGED * limit:
        return _TOO_HIGH.format(losses)
    if loss > _NOT_LEARNED * limit:
        return (
            f"the network did not learn its training rows ({losses}); try another train.optimizer.learning_rate, more"
            " train.epochs, or a larger network"
        )
    return (
        f"the network has learned its training rows ({losses}), but nothing that holds for others: it over-fits, or the"
        " test rows differ from the training rows"
    )


def find_overfitting(epochs: Sequence[dict[str, float]], best_epoch: int | None, *, keeps_best: bool) -> str | None:
    """Describe how the error on validation rose after its lowest value; returns None if it did not.

    Args:
        epochs: Metrics of the validation after each epoch.
        best_epoch: Number of the best one, from 1; another metric than the error may have chosen it.
        keeps_best: Whether its weights are the model's.
    """
    if best_epoch is None:
        return None
    for error in ("log_loss", "rmse"):
        values = [metrics.get(error, math.nan) for metrics in epochs]
        lowest = min(range(len(values)), key=lambda index: (math.isnan(values[index]), values[index]))
        if not values[-1] > (1 + _WORSE) * values[lowest]:  # also NaN
            continue
        kept = f"epoch {best_epoch} are kept" if keeps_best else "the last epoch are kept (train.keep)"
        return (
            f"over-fitting: {error} on validation rose from {format_metric(values[lowest])} after epoch {lowest + 1} to"
            f" {format_metric(values[-1])} after epoch {len(epochs)}; the weights of {kept}; use fewer train.epochs,"
            " more regularisation (weight_decay, dropout), or more rows"
        )
    return None
