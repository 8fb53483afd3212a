"""The `model` and `train` parts of a job file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, field_validator, model_validator

from farandole.spec.augment import Augment
from farandole.spec.base import Spec, non_default_fields
from farandole.spec.checkpoint import LOWER_IS_BETTER, Checkpoint
from farandole.spec.features import IDENTIFIERS_ONLY, Identifier
from farandole.spec.horovod import Horovod

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "accuracy", "log_loss"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}
"""The metrics that suit a kind of label; the first one is the one that a reader asks for."""
LOSSES: dict[str, tuple[str, ...]] = {
    "binary": ("auto", "binary_cross_entropy"),
    "multiclass": ("auto", "cross_entropy"),
    "regression": ("auto", "mse", "mae", "huber"),
}
"""The losses that suit a kind of label."""
_REFERENCE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"

Reference = Annotated[str, Field(pattern=rf"^{_REFERENCE}$")]
"""`module:function`."""


def is_function_reference(name: str) -> bool:
    """Whether a loss or metric is a function of the user's, `module:function`."""
    return ":" in name


def _known(names: dict[str, tuple[str, ...]], value: str) -> str:
    known = list(dict.fromkeys(name for suitable in names.values() for name in suitable))
    if value in known or re.fullmatch(_REFERENCE, value):
        return value
    raise ValueError(f"{value} is not known; use {', '.join(known)}, or a function of your own: module:function")


Metric = Annotated[str, AfterValidator(lambda value: _known(METRICS, value))]
"""A metric by name, or `module:function`: gets outputs `[rows, num_outputs]` and labels `[rows]` of a whole split,
returns a number."""
Loss = Annotated[str, AfterValidator(lambda value: _known(LOSSES, value))]
"""A loss by name, or `module:function`: gets outputs `[rows, num_outputs]` and labels `[rows]`, returns the loss
of each row, `[rows]`."""


class Model(Spec):
    """Which network, and with which options."""

    builder: Reference
    """`module:function`. The module lies beside the job file, or is one of `farandole.models`. The function gets
    the dataset's schema and the options, and returns a `torch.nn.Module` that takes each feature group by name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the builder."""


OptimizerName = Literal[
    "adamw",
    "adam",
    "sgd",
    "rmsprop",
    "adagrad",
    "adamax",
    "nadam",
    "radam",
    "adadelta",
    "asgd",
    "adafactor",
]
"""Torch's optimizers that need no closure and take every kind of parameter."""


class Optimizer(Spec):
    """How gradients move the weights."""

    name: OptimizerName = "adamw"
    """One of torch's optimizers."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The highest learning rate that the schedule reaches."""
    base_batch_size: Annotated[int, Field(ge=1)] | None = None
    """The linear scaling rule (Goyal et al. 2017, section 2.1): the learning rate is meant for steps of so many
    rows, and is multiplied by `global_batch_size / base_batch_size`. It does not depend on the number of workers."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Per step; applied to weight matrices, not to biases, norms and other vectors."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other keyword arguments of torch's class, for example `{betas: [0.9, 0.98]}`."""

    @field_validator("options")
    @classmethod
    def _no_fields(cls, value: dict[str, Any]) -> dict[str, Any]:
        for option, field in (("lr", "learning_rate"), ("weight_decay", "weight_decay"), ("params", None)):
            if option in value:
                raise ValueError(f"{option} has no effect here; " + (f"use `{field}`" if field else "remove it"))
        return value


class Schedule(Spec):
    """How the learning rate changes from step to step."""

    name: Literal["constant", "linear", "cosine", "one_cycle", "plateau"] = "constant"
    """After the warm-up: constant; down to `final` times the learning rate in a line or half a cosine; `one_cycle`
    (Smith and Topin 2018): half a cosine up from a 25th, half a cosine down; `plateau`: multiplied by `factor`
    whenever `metric` has not improved in more than `patience` validations."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of all steps in which the learning rate rises from 0. For `one_cycle`, the share of the rise, if
    not set 0.3."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the learning rate that is left at the end; for `plateau`, the least share."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """`plateau`: what the learning rate is multiplied by."""
    patience: Annotated[int, Field(ge=0)] = 5
    """`plateau`: how many validations in a row may be no better than the best."""
    metric: Metric | None = None
    """`plateau`: which validation metric. Default: the first of the job's metrics."""
    direction: Literal["max", "min"] | None = None
    """`plateau`: whether more or less of it is better. Default: what suits the metric."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "constant" and non_default_fields(self, "final"):
            raise ValueError("final has no effect on a constant schedule; remove it")
        named = non_default_fields(self, "factor", "patience", "metric", "direction")
        if self.name != "plateau" and named:
            raise ValueError(f"{', '.join(named)}: only for `name: plateau`; remove it")
        return self


class EarlyStopping(Spec):
    """When training ends before its last epoch."""

    metric: Metric | None = None
    """Which validation metric. Default: the first of the job's metrics."""
    direction: Literal["max", "min"] | None = None
    """Whether more or less of it is better. Default: what suits the metric."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Training ends after so many validations in a row that are no better than the best."""
    min_change: Annotated[float, Field(ge=0)] = 0.0
    """How much better than the best a value has to be to count."""
    restore_best: bool = False
    """At the end, take the weights of the best validation instead of the last ones."""


class Ema(Spec):
    """An exponential moving average of the weights, which is validated, tested and logged in their place."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """What is kept of the average at each step; less in the first steps: `(1 + step) / (10 + step)`."""


class Train(Spec):
    """How the model is fitted."""

    epochs: Annotated[int, Field(ge=1)] = 10
    """How often the training split is read."""
    global_batch_size: Annotated[int, Field(ge=1)] = 1024
    """Rows of one optimizer step, over all workers. It need not be a multiple of the number of workers."""
    tail: Literal["weight", "drop"] = "weight"
    """The rows that do not fill the last batch of an epoch: `weight` makes one smaller batch of them,
    `drop` leaves them out (other rows in every epoch)."""
    optimizer: Optimizer = Optimizer()
    """How gradients move the weights."""
    schedule: Schedule = Schedule()
    """How the learning rate changes."""
    augment: Annotated[dict[Identifier, Augment], Field(json_schema_extra=IDENTIFIERS_ONLY)] = Field(
        default_factory=dict
    )
    """Feature group to random changes of its training rows. They follow from the seed, the epoch and the row alone;
    validation and test are never changed."""
    accumulate_steps: Annotated[int, Field(ge=1)] = 1
    """Each worker computes its rows of a global batch in so many pieces, to need less memory. The global batch, and but
    for rounding the result, stay the same; gradients are summed over the workers once for each batch."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the network computes in: weights and gradients are float32, and torch's autocast chooses. fp16 scales the
    loss, and leaves steps out whose gradients overflow."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """The largest norm of the gradient of the global batch."""
    compression: Literal["none", "fp16"] = "none"
    """`fp16`: gradients travel between workers in half precision."""
    loss: Loss = "auto"
    """`auto`: binary or multiclass cross-entropy, or the mean squared error, as the label asks for. Or a function
    of your own, `module:function`: gets outputs `[rows, num_outputs]` and labels `[rows]`, returns the loss of
    each row."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of each label's weight that is spread evenly over all classes (Szegedy et al. 2016, section 7)."""
    class_weights: Literal["balanced"] | tuple[PositiveFloat, ...] | dict[str, PositiveFloat] | None = None
    """What a row's loss counts: by class in the dataset's order, by the class's name (others count 1), or
    `balanced`, so that all classes count the same."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] | None = None
    """What is measured on validation and test. Default: all that suit the label. Or functions of your own,
    `module:function`: they get outputs and labels of a whole split, and return a number."""
    early_stopping: EarlyStopping | None = None
    """When training ends before its last epoch."""
    ema: Ema | None = None
    """An average of the weights, which takes their place when training ends."""
    shard_optimizer: bool = False
    """Each worker keeps the optimizer's state of its part of the weights only (ZeRO stage 1, Rajbhandari et al. 2020,
    section 5.1): with N workers 1/N of the memory. The result is the same."""
    horovod: Horovod = Horovod()
    """How gradients are summed over the workers."""
    compile: bool = False
    """Compile the network by `torch.compile`: the first steps take minutes, the others may be faster."""
    channels_last: bool = False
    """Keep the weights of convolutions in the order that images have in memory."""
    profile: bool = False
    """Write a torch trace of a few steps of each worker and Horovod's timeline into the job's directory and to
    MLflow."""
    checkpoint: Checkpoint = Checkpoint()
    """How often the state is saved."""
    log_every_steps: Annotated[int, Field(ge=1)] = 50
    """Steps between two training losses in MLflow."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides the first weights, dropout and the order of rows."""

    @property
    def learning_rate(self) -> float:
        """The highest learning rate, scaled to the global batch if so asked."""
        base = self.optimizer.base_batch_size
        return self.optimizer.learning_rate * (self.global_batch_size / base if base else 1.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accumulate_steps > self.global_batch_size:
            raise ValueError(
                f"accumulate_steps: {self.accumulate_steps} pieces of a global batch of {self.global_batch_size} rows"
                f" leave pieces without a row; use at most {self.global_batch_size}"
            )
        if self.shard_optimizer and self.optimizer.name == "adafactor":
            raise ValueError(
                "shard_optimizer: adafactor keeps rows and columns of whole matrices and cannot be sharded; use another"
                " optimizer, or leave it out"
            )
        if self.shard_optimizer and self.horovod.adasum:
            raise ValueError("horovod.adasum: cannot be used with shard_optimizer, which needs sums; leave one out")
        if is_function_reference(self.loss) and (self.label_smoothing or self.class_weights):
            raise ValueError(
                f"label_smoothing and class_weights have no effect on {self.loss}; leave them out, and let the function"
                " do it"
            )
        if self.horovod.predivide_factor != 1.0 and self.compression == "none":
            raise ValueError("horovod.predivide_factor: has no use without `compression: fp16`; leave it out")
        return self


def metric_direction(metric: str, direction: str | None, place: str) -> str:
    """`max` or `min`: what is better.

    Raises:
        ValueError: Nobody can tell for a function of the user's.
    """
    if direction is None and is_function_reference(metric):
        raise ValueError(f"{place}.direction: is missing; say whether more (max) or less (min) of {metric} is better")
    return direction or ("min" if metric in LOWER_IS_BETTER else "max")
