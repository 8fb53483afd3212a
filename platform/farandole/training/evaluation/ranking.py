"""Metrics of a ranking, and the counts behind them. float64 throughout; equal scores count as one threshold.

torchmetrics has the same functions, and importing it, with SciPy, matplotlib and torch.export, took each worker three
seconds of processor time: more than the first two epochs of a small job.
"""

from __future__ import annotations

import torch


def roc_curve(scores: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rates of false and of true positives, from the highest threshold to the lowest; both start at 0.

    Args:
        scores: `[B]`, larger for the positive class.
        label: `[B]`, 0 or 1, with rows of both classes.
    """
    true, false = _counts(scores, label)
    start = torch.zeros(1, dtype=torch.float64)
    return torch.cat([start, false / false[-1]]), torch.cat([start, true / true[-1]])


def roc_auc(scores: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the area under the ROC curve; see `roc_curve` for the arguments."""
    false, true = roc_curve(scores, label)
    return torch.trapezoid(true, false)


def average_precision(scores: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the mean of the precision over the gains in recall; see `roc_curve` for the arguments."""
    true, false = _counts(scores, label)
    gains = torch.diff(true, prepend=torch.zeros(1, dtype=torch.float64))
    return (true / (true + false) * gains).sum() / true[-1]


def confusion_matrix(predicted: torch.Tensor, true: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return the number of rows by true class (rows of the result) and predicted class, int64 `[C, C]`."""
    cells = true.long() * num_classes + predicted.long()
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _counts(scores: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the numbers of true and of false positives at each distinct score, from the highest to the lowest."""
    ordered, order = torch.sort(scores, descending=True)
    positives = label[order].double().cumsum(0)
    is_last = torch.ones(len(ordered), dtype=torch.bool)
    is_last[:-1] = ordered[1:] != ordered[:-1]
    true = positives[is_last]
    return true, torch.arange(1, len(ordered) + 1, dtype=torch.float64)[is_last] - true
