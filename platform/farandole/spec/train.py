"""The `model`, `train`, `resources` and `tracking` parts of a job file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from farandole.spec.augment import Augment
from farandole.spec.base import PathText, SecretError, Spec, changed, expand_variables
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


class Checkpoint(Spec):
    """How often the state is saved, so that a broken training can go on."""

    every_epochs: Annotated[int, Field(ge=1)] = 1
    """Save after every so many epochs. The last epoch is always saved."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many of the newest checkpoints are kept."""


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


class Resources(Spec):
    """What the job runs on."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Horovod processes."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Threads of each worker. Default: the cores of this machine, shared evenly."""
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each worker: 0 or 1."""
    max_restarts: Annotated[int, Field(ge=0)] = 0
    """How often a broken training is started again from its last checkpoint."""

    def threads(self, cores: int, workers: int) -> int:
        """Threads of each worker on a machine with so many cores and workers."""
        return self.cpus or max(1, cores // workers)


def _without_password(uri: str) -> str:
    expanded = expand_variables(uri)
    parts = urlsplit(expanded)
    if parts.password or any("password" in name.lower() for name in parse_qs(parts.query)):
        raise SecretError(
            "a password does not belong in a job file; give it by PGPASSWORD or ~/.pgpass (PostgreSQL), or by"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (server)"
        )
    return expanded


class Tracking(Spec):
    """Where runs are recorded."""

    uri: Annotated[str, AfterValidator(_without_password)] | None = None
    """MLflow's tracking URI (`http://…`, `postgresql://…`, `sqlite:///…`).
    Default: `$MLFLOW_TRACKING_URI`, or else a SQLite file in `$FARANDOLE_HOME`."""
    artifacts: PathText | None = None
    """Where a new experiment keeps its artifacts, if no server decides. Default: `$FARANDOLE_HOME/artifacts`."""
    experiment: Annotated[str, Field(min_length=1)] = "farandole"
    """MLflow's experiment."""
    register_as: Annotated[str, Field(min_length=1)] | None = "{name}"
    """The registered model that `farandole run` adds a version to; `{name}` is the job's name; null: none."""
    system_metrics: bool = True
    """Record the node's processor, memory and network use."""

    @field_validator("register_as")
    @classmethod
    def _no_slash(cls, value: str | None) -> str | None:
        if value is not None and any(sign in value for sign in "/:"):
            raise ValueError("a registered model's name has no `/` and no `:`")
        return value
