"""Losses and scores: what a model's outputs mean for each kind of label.

Shapes: B rows, O outputs, C classes.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from farandole.errors import ModelError, SpecError, closest_match
from farandole.shards import LABEL, Dataset, LabelColumn
from farandole.spec import Job, is_function_reference
from farandole.training import world
from farandole.training.model_builder import import_user_function, user_code_error
from farandole.training.world import World

RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Outputs `[B, O]` and label `[B]` to the loss of each row, `[B]`."""
SplitMetric = Callable[[torch.Tensor, torch.Tensor], Any]
"""Outputs `[B, O]` and label `[B]` of a whole split to a number."""

_AUTO = {"binary": "binary_cross_entropy", "multiclass": "cross_entropy", "regression": "mse"}


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


def loss_function(
    name: str,
    label: LabelColumn,
    *,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
    folder: str | None = None,
) -> RowLoss:
    """The loss of each row.

    Args:
        name: A name, or `module:function`.
        label: The label's column.
        smoothing: The share of a label's weight that is spread over all classes.
        weights: What the rows of each class count, `[C]`; None: all the same.
        folder: Where the user's modules lie.

    Raises:
        ModelError: The user's function cannot be imported.
    """
    if is_function_reference(name):
        return _checked(import_user_function(name, folder, "train.loss"), f"train.loss: {name}")
    chosen = _AUTO[label.kind] if name == "auto" else name
    if chosen == "binary_cross_entropy":
        return _weighted(lambda outputs, true: _binary(outputs, true, smoothing), weights)
    if chosen == "cross_entropy":
        return _weighted(
            lambda outputs, true: F.cross_entropy(outputs, true.long(), reduction="none", label_smoothing=smoothing),
            weights,
        )
    return _REGRESSION[chosen]


_REGRESSION: dict[str, RowLoss] = {
    "mse": lambda outputs, label: F.mse_loss(outputs.squeeze(1), label, reduction="none"),
    "mae": lambda outputs, label: F.l1_loss(outputs.squeeze(1), label, reduction="none"),
    "huber": lambda outputs, label: F.huber_loss(outputs.squeeze(1), label, reduction="none"),
}


def _binary(outputs: torch.Tensor, label: torch.Tensor, smoothing: float) -> torch.Tensor:
    target = label.to(outputs.dtype)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(outputs.squeeze(1), target, reduction="none")


def _weighted(loss: RowLoss, weights: torch.Tensor | None) -> RowLoss:
    """Rows weigh by their class. The sum is divided by rows, not by weights, so that pieces of a batch add up."""
    if weights is None:
        return loss

    def weighted(outputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return loss(outputs, label) * weights.to(outputs.device)[label.long()]

    return weighted


def _checked(function: Callable[..., Any], place: str) -> RowLoss:
    def checked(outputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        try:
            losses = function(outputs, label)
        except Exception as error:
            raise user_code_error(error, place) from error
        remedy = f"return the loss of each row: a float tensor of shape [{len(label)}]"
        if not isinstance(losses, torch.Tensor):
            raise ModelError(f"{place}: returned {type(losses).__name__}; {remedy}")
        if tuple(losses.shape) != (len(label),) or not losses.is_floating_point():
            raise ModelError(f"{place}: returned {losses.dtype} {list(losses.shape)}; {remedy}")
        if not losses.requires_grad and torch.is_grad_enabled():
            raise ModelError(f"{place}: returned losses without a gradient; compute them from the outputs, by torch")
        return losses

    return checked


def class_weights(job: Job, dataset: Dataset, gang: World) -> torch.Tensor | None:
    """What the rows of each class count in the loss, `[C]`; None: all the same.

    Raises:
        SpecError: The weights do not fit the dataset's classes.
    """
    asked, label = job.train.class_weights, dataset.manifest.columns.target
    place = "train.class_weights"
    if asked is None:
        return None
    classes = label.classes
    if asked == "balanced":
        counts = count_labels(dataset, gang)
        rows, seen = sum(counts), sum(count > 0 for count in counts)
        return torch.tensor([rows / (seen * count) if count else 1.0 for count in counts])
    if isinstance(asked, dict):
        for name in asked:
            if name not in classes:
                close = closest_match(name, list(classes))
                hint = f"did you mean {close}?" if close else f"there are {', '.join(classes)}"
                raise SpecError(f"{place}.{name}: the label {label.column} has no such class; {hint}")
        return torch.tensor([asked.get(name, 1.0) for name in classes])
    if len(asked) != len(classes):
        raise SpecError(
            f"{place}: {len(asked)} weights for the {len(classes)} classes {', '.join(classes)}; give one for each"
        )
    return torch.tensor(asked)


def count_labels(dataset: Dataset, gang: World) -> list[int]:
    """The training rows of each class: from the manifest, or else counted, by each rank in blocks of its own."""
    label = dataset.manifest.columns.target
    known = dataset.manifest.statistics.get(label.column, {})
    listed = dict(known.get("most_frequent", ()))
    if known.get("rows") == dataset.manifest.rows("train") == sum(listed.get(name, 0) for name in label.classes):
        return [listed.get(name, 0) for name in label.classes]
    reader, counts = dataset.split("train"), Counter[int]()
    for number in range(gang.rank, len(reader.block_rows), gang.size):
        counts.update(reader.block(number)[LABEL].tolist())
    sums = world.all_reduce_sum([float(counts[place]) for place in range(len(label.classes))], "label.counts")
    return [round(count) for count in sums]


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


def metric_key(name: str) -> str:
    """What a metric is called where it is measured: MLflow refuses a colon in a name."""
    return name.replace(":", ".")


def metric_functions(job: Job) -> dict[str, SplitMetric]:
    """The user's own metrics, by name.

    Raises:
        ModelError: One cannot be imported.
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
    kind: LabelColumn,
    own: dict[str, SplitMetric] | None = None,
) -> dict[str, float]:
    """The metrics of a whole split. One that is not defined for it (the ROC of one class) is left out.

    Args:
        names: Which metrics.
        outputs: `[B, O]`, of all ranks.
        label: `[B]`.
        kind: The label's column.
        own: The user's own metrics.

    Raises:
        ModelError: One of the user's raises, or returns no number.
    """
    if not len(label):
        return {}
    outputs, scores = outputs.float(), predictions(outputs.float(), kind)
    measured: dict[str, float] = {}
    for name in names:
        if own and name in own:
            measured[metric_key(name)] = _own(own[name], outputs, label, name)
            continue
        if name in _OF_RANKS and len(torch.unique(label)) < 2:
            continue
        if name == "r2" and len(label) < 2:
            continue
        if name == "log_loss":
            value = loss_function("auto", kind)(outputs, label).double().mean()
        elif name == "accuracy":
            chosen = (scores > 0.5).int() if kind.kind == "binary" else scores.argmax(1)
            value = (chosen == label).float().mean()
        elif name in _OF_RANKS:
            value = _SCORES[name](_ranks(outputs.squeeze(1)), label)
        else:
            value = _SCORES[name](scores, label)
        measured[name] = float(value)
    return measured


def _own(function: SplitMetric, outputs: torch.Tensor, label: torch.Tensor, name: str) -> float:
    try:
        return float(function(outputs, label))
    except Exception as error:
        raise user_code_error(error, f"train.metrics: {name}") from error


def _ranks(logits: torch.Tensor) -> torch.Tensor:
    """The order of the logits as float64 in [0, 1]: confident probabilities would all round to 1 and look equal."""
    values, places = torch.unique(logits, return_inverse=True)
    ranks: torch.Tensor = places.double() / max(1, len(values) - 1)
    return ranks
