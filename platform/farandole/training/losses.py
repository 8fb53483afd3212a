"""Losses per row for each kind of label, and the weights of classes.

Shapes: B rows, K members of an ensemble, O outputs, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from farandole.errors import ModelError, SpecError, closest_match
from farandole.shards import LABEL, Dataset, LabelColumn
from farandole.spec import Job, is_function_reference
from farandole.training import world
from farandole.training.model_builder import import_user_function, user_code_error
from farandole.training.world import World

RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Function from outputs `[B, O]` and label `[B]` to the loss of each row, `[B]`."""

_DEFAULT_LOSS = {"binary": "binary_cross_entropy", "multiclass": "cross_entropy", "regression": "mse"}
_REGRESSION_LOSSES: dict[str, RowLoss] = {
    "mse": lambda outputs, label: F.mse_loss(outputs.squeeze(1), label, reduction="none"),
    "mae": lambda outputs, label: F.l1_loss(outputs.squeeze(1), label, reduction="none"),
    "huber": lambda outputs, label: F.huber_loss(outputs.squeeze(1), label, reduction="none"),
}


def loss_function(
    name: str,
    label: LabelColumn,
    *,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
    folder: str | None = None,
) -> RowLoss:
    """Return the loss function of a training.

    Args:
        name: Name of a loss, or `module:function`.
        label: The label's column.
        smoothing: Share of a label's weight that is spread over all classes.
        weights: Weight of the rows of each class, `[C]`; None for equal weights.
        folder: Folder of the user's modules.

    Raises:
        ModelError: The user's function cannot be imported.
    """
    if is_function_reference(name):
        return _check_user_loss(import_user_function(name, folder, "train.loss"), f"train.loss: {name}")
    resolved = _DEFAULT_LOSS[label.kind] if name == "auto" else name
    if resolved == "binary_cross_entropy":
        return _weight_rows(lambda outputs, true: _binary_cross_entropy(outputs, true, smoothing), weights)
    if resolved == "cross_entropy":
        return _weight_rows(
            lambda outputs, true: F.cross_entropy(outputs, true.long(), reduction="none", label_smoothing=smoothing),
            weights,
        )
    return _REGRESSION_LOSSES[resolved]


def _binary_cross_entropy(outputs: torch.Tensor, label: torch.Tensor, smoothing: float) -> torch.Tensor:
    target = label.to(outputs.dtype)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(outputs.squeeze(1), target, reduction="none")


def _weight_rows(loss: RowLoss, weights: torch.Tensor | None) -> RowLoss:
    """Weight each row by its class. The sum is divided by rows, not by weights, so that parts of a batch add up."""
    if weights is None:
        return loss

    def weighted(outputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return loss(outputs, label) * weights.to(outputs.device)[label.long()]

    return weighted


def _check_user_loss(function: Callable[..., Any], field_path: str) -> RowLoss:
    def checked(outputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        try:
            losses = function(outputs, label)
        except Exception as error:
            raise user_code_error(error, field_path) from error
        remedy = f"return the loss of each row: a float tensor of shape [{len(label)}]"
        if not isinstance(losses, torch.Tensor):
            raise ModelError(f"{field_path}: returned {type(losses).__name__}; {remedy}")
        if tuple(losses.shape) != (len(label),) or not losses.is_floating_point():
            raise ModelError(f"{field_path}: returned {losses.dtype} {list(losses.shape)}; {remedy}")
        if not losses.requires_grad and torch.is_grad_enabled():
            raise ModelError(
                f"{field_path}: returned losses without a gradient; compute them from the outputs, with torch"
            )
        return losses

    return checked


def row_losses(loss: RowLoss, outputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Compute the loss of each row, `[B]`; that of an ensemble is the mean of its members' losses.

    Args:
        loss: The loss function.
        outputs: `[B, O]`, or `[B, K, O]`, the outputs of K networks that are trained together.
        label: `[B]`, or whatever else the function takes for each row.
    """
    if outputs.ndim < 3:
        return loss(outputs, label)
    rows, members, _ = outputs.shape
    return loss(outputs.flatten(0, 1), label.repeat_interleave(members, 0)).view(rows, members).mean(1)


def check_outputs(
    outputs: object, rows: int, label: LabelColumn, *, members: int | None = None, mode: str = ""
) -> None:
    """Check what a model returned for a batch.

    Args:
        outputs: The outputs.
        rows: Number of rows of the batch.
        label: The label's column.
        members: Size of the axis that they may have between rows and outputs: the members of an ensemble in training.
        mode: How the model was called, for the error: ` in evaluation mode`.

    Raises:
        ModelError: The outputs are not a float tensor `[rows, num_outputs]`.
    """
    expected = (rows, label.num_outputs)
    remedy = (
        f"return a float tensor of shape {list(expected)}: one row of {label.num_outputs} for each row of the batch"
    )
    if not isinstance(outputs, torch.Tensor):
        raise ModelError(f"model.builder: forward{mode} returned {type(outputs).__name__}; {remedy}")
    shape = tuple(outputs.shape)
    if members and len(shape) == 3 and shape[1] == members:
        shape = (shape[0], shape[2])
    if shape != expected or not outputs.is_floating_point():
        raise ModelError(f"model.builder: forward{mode} returned {outputs.dtype} {list(outputs.shape)}; {remedy}")


def class_weights(job: Job, dataset: Dataset, gang: World) -> torch.Tensor | None:
    """Return the weight of the rows of each class in the loss, `[C]`, or None for equal weights.

    Raises:
        SpecError: The weights do not fit the dataset's classes.
    """
    requested, label = job.train.class_weights, dataset.manifest.columns.target
    field_path = "train.class_weights"
    if requested is None:
        return None
    classes = label.classes
    if requested == "balanced":
        counts = count_labels(dataset, gang)
        rows, seen = sum(counts), sum(count > 0 for count in counts)
        return torch.tensor([rows / (seen * count) if count else 1.0 for count in counts])
    if isinstance(requested, dict):
        for name in requested:
            if name not in classes:
                close = closest_match(name, list(classes))
                hint = f"did you mean {close}?" if close else f"its classes are {', '.join(classes)}"
                raise SpecError(f"{field_path}.{name}: the label {label.column} has no such class; {hint}")
        return torch.tensor([requested.get(name, 1.0) for name in classes])
    if len(requested) != len(classes):
        raise SpecError(
            f"{field_path}: {len(requested)} weights for the {len(classes)} classes {', '.join(classes)}; give one for"
            " each"
        )
    return torch.tensor(requested)


def output_bias(job: Job, dataset: Dataset, gang: World) -> torch.Tensor:
    """Return the outputs `[O]` of a model that knows only how frequent the classes are: log-odds or log-priors.

    For a regression these are zeros: the mean of a scaled label is 0. Weights of classes count like more rows.
    """
    label = dataset.manifest.columns.target
    if label.kind == "regression":
        return torch.zeros(label.num_outputs)
    weights = class_weights(job, dataset, gang)
    counts = torch.tensor(count_labels(dataset, gang), dtype=torch.float64).clamp(min=0.5)
    logs = (counts if weights is None else counts * weights).log()
    bias = logs[1:] - logs[0] if label.kind == "binary" else logs - logs.exp().sum().log()
    return bias.float()


def constant_loss(job: Job, label: LabelColumn, output: np.ndarray, statistics: dict[str, Any]) -> float | None:
    """Return the training loss of the trivial baseline; None if the loss is not the default one of the label alone.

    Args:
        job: The job.
        label: The label's column.
        output: The baseline's outputs for a row, float64 `[O]`: log-odds or logarithms of the classes' frequencies.
        statistics: The manifest's statistics of the label's column.
    """
    if job.train.loss != "auto" or job.train.class_weights is not None or job.train.distill is not None:
        return None
    if label.kind == "regression":
        if label.scale is None:
            deviation = statistics.get("deviation")
            return None if deviation is None else float(deviation) ** 2
        is_standard = label.scale.mean != 0 or label.scale.deviation != 1
        return 1.0 if is_standard else None
    logs = output if label.kind == "multiclass" else np.array([0.0, output[0]])
    logs = logs - np.logaddexp.reduce(logs)
    smoothing = job.train.smoothing
    shares = (1 - smoothing) * np.exp(logs) + smoothing / len(logs)
    return float(-(shares * logs).sum())


def count_labels(dataset: Dataset, gang: World) -> list[int]:
    """Count the training rows of each class.

    Uses the manifest's statistics if they list all classes; otherwise each rank reads its share of the blocks.
    """
    listed, label = listed_class_counts(dataset), dataset.manifest.columns.target
    if listed is not None:
        return listed
    reader, counts = dataset.split("train"), Counter[int]()
    for number in range(gang.rank, len(reader.block_rows), gang.size):
        counts.update(reader.block(number)[LABEL].tolist())
    sums = world.all_reduce_sum([float(counts[index]) for index in range(len(label.classes))], "label.counts")
    return [round(count) for count in sums]


def listed_class_counts(dataset: Dataset) -> list[int] | None:
    """Return the training rows of each class by the manifest's statistics; None if these do not list all classes."""
    label = dataset.manifest.columns.target
    statistics = dataset.manifest.statistics.get(label.column, {})
    listed = dict(statistics.get("most_frequent", ()))
    if statistics.get("rows") == dataset.manifest.rows("train") == sum(listed.get(name, 0) for name in label.classes):
        return [listed.get(name, 0) for name in label.classes]
    return None
