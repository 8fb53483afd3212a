"""Losses and scores: what a model's outputs mean for each kind of label.

Shapes: B rows, O outputs, C classes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from farandole.errors import ModelError
from farandole.shards import LabelColumn

_Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_AUTO = {"binary": "binary_cross_entropy", "multiclass": "cross_entropy", "regression": "mse"}

_LOSSES: dict[str, _Loss] = {
    "binary_cross_entropy": lambda outputs, label: F.binary_cross_entropy_with_logits(
        outputs.squeeze(1), label.to(outputs.dtype), reduction="sum"
    ),
    "cross_entropy": lambda outputs, label: F.cross_entropy(outputs, label.long(), reduction="sum"),
    "mse": lambda outputs, label: F.mse_loss(outputs.squeeze(1), label, reduction="sum"),
    "mae": lambda outputs, label: F.l1_loss(outputs.squeeze(1), label, reduction="sum"),
    "huber": lambda outputs, label: F.huber_loss(outputs.squeeze(1), label, reduction="sum"),
}


def _torchmetrics(part: str) -> Any:
    """Imported for the first evaluation: it brings SciPy and matplotlib, which take as long as torch itself, and a
    worker that starts again should train before it waits for that."""
    return importlib.import_module(f"torchmetrics.functional.{part}")


_SCORES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "roc_auc": lambda scores, label: _torchmetrics("classification").binary_auroc(scores, label),
    "average_precision": lambda scores, label: _torchmetrics("classification").binary_average_precision(scores, label),
    "rmse": lambda scores, label: _torchmetrics("regression").mean_squared_error(scores, label, squared=False),
    "mae": lambda scores, label: _torchmetrics("regression").mean_absolute_error(scores, label),
    "r2": lambda scores, label: _torchmetrics("regression").r2_score(scores, label),
}

_OF_RANKS = {"roc_auc", "average_precision"}
"""Metrics of the order of rows alone; they need two classes."""


def loss_function(name: str, label: LabelColumn) -> _Loss:
    """The loss, summed over rows: outputs `[B, O]` and label `[B]` to a scalar."""
    return _LOSSES[_AUTO[label.kind] if name == "auto" else name]


def check_outputs(outputs: object, rows: int, label: LabelColumn) -> None:
    """Check what a model returned for `rows` rows.

    Raises:
        ModelError: It is not a float tensor `[rows, num_outputs]`.
    """
    wanted = (rows, label.num_outputs)
    remedy = f"return a float tensor of shape {list(wanted)}: one row of {label.num_outputs} for each row of the batch"
    if not isinstance(outputs, torch.Tensor):
        raise ModelError(f"model.builder: forward returned {type(outputs).__name__}; {remedy}")
    if tuple(outputs.shape) != wanted or not outputs.is_floating_point():
        raise ModelError(f"model.builder: forward returned {outputs.dtype} {list(outputs.shape)}; {remedy}")


def predictions(outputs: torch.Tensor, label: LabelColumn) -> torch.Tensor:
    """What the outputs say: probabilities `[B]` of the positive class or `[B, C]`, or values `[B]`."""
    if label.kind == "binary":
        return outputs.squeeze(1).sigmoid()
    if label.kind == "multiclass":
        return outputs.softmax(1)
    return outputs.squeeze(1)


def measure(names: tuple[str, ...], outputs: torch.Tensor, label: torch.Tensor, kind: LabelColumn) -> dict[str, float]:
    """The metrics of a whole split. One that is not defined for it (the ROC of one class) is left out.

    Args:
        names: Which metrics.
        outputs: `[B, O]`, of all ranks.
        label: `[B]`.
        kind: The label's column.
    """
    if not len(label):
        return {}
    outputs, scores = outputs.float(), predictions(outputs.float(), kind)
    measured: dict[str, float] = {}
    for name in names:
        if name in _OF_RANKS and len(torch.unique(label)) < 2:
            continue
        if name == "r2" and len(label) < 2:
            continue
        if name == "log_loss":
            value = loss_function("auto", kind)(outputs, label) / len(label)
        elif name == "accuracy":
            chosen = (scores > 0.5).int() if kind.kind == "binary" else scores.argmax(1)
            value = (chosen == label).float().mean()
        elif name in _OF_RANKS:
            value = _SCORES[name](_ranks(outputs.squeeze(1)), label)
        else:
            value = _SCORES[name](scores, label)
        measured[name] = float(value)
    return measured


def _ranks(logits: torch.Tensor) -> torch.Tensor:
    """The order of the logits as float64 in [0, 1]: confident probabilities would all round to 1 and look equal."""
    values, places = torch.unique(logits, return_inverse=True)
    ranks: torch.Tensor = places.double() / max(1, len(values) - 1)
    return ranks
