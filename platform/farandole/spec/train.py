"""The `model` and `train` parts of a job file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from farandole.spec.augment import Augment
from farandole.spec.base import Spec, changed
from farandole.spec.checkpoint import Checkpoint
from farandole.spec.feature import ONLY_NAMES, Name

Metric = Literal["roc_auc", "average_precision", "accuracy", "log_loss", "rmse", "mae", "r2"]
METRICS: dict[str, tuple[Metric, ...]] = {
    "binary": ("roc_auc", "average_precision", "accuracy", "log_loss"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}
"""The metrics that suit a kind of label; the first one is the one that a reader asks for."""


class Model(Spec):
    """Which network, and with which options."""

    builder: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """`module:function`. The module lies beside the job file, or is one of `farandole.models`. The function gets
    the dataset's schema and the options, and returns a `torch.nn.Module` that takes each feature group by name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the builder."""


class Optimizer(Spec):
    """How gradients move the weights."""

    name: Literal["adamw", "adam", "sgd", "rmsprop", "adagrad"] = "adamw"
    """One of torch's optimizers."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The highest learning rate that the schedule reaches."""
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

    name: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: constant, or down to `final` times the learning rate in a line or half a cosine."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of all steps in which the learning rate rises from 0."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the learning rate that is left at the end."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "constant" and changed(self, "final"):
            raise ValueError("final has no effect on a constant schedule; remove it")
        return self


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
    augment: Annotated[dict[Name, Augment], Field(json_schema_extra=ONLY_NAMES)] = Field(default_factory=dict)
    """Feature group to random changes of its training rows. They follow from the seed, the epoch and the row alone;
    validation and test are never changed."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """The largest norm of the reduced gradient."""
    loss: Literal["auto", "binary_cross_entropy", "cross_entropy", "mse", "mae", "huber"] = "auto"
    """`auto`: binary or multiclass cross-entropy, or the mean squared error, as the label asks for."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] | None = None
    """What is measured on validation and test. Default: all that suit the label."""
    checkpoint: Checkpoint = Checkpoint()
    """How often the state is saved."""
    log_every_steps: Annotated[int, Field(ge=1)] = 50
    """Steps between two training losses in MLflow."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides the first weights, dropout and the order of rows."""
