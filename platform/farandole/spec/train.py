"""The `model` and `train` parts of a job file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PositiveFloat,
    Tag,
    field_validator,
    model_validator,
)

from farandole.spec.augment import Augment
from farandole.spec.base import PathText, Spec, non_default_fields
from farandole.spec.features import IDENTIFIERS_ONLY, Identifier
from farandole.spec.horovod import Horovod
from farandole.spec.trained_models import Distill, Prune

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "accuracy", "log_loss"),
    "multiclass": ("accuracy", "log_loss", "macro_f1"),
    "regression": ("rmse", "mae", "r2"),
}
"""The metrics that suit each kind of label; the first one is the primary metric."""
LOWER_IS_BETTER = frozenset({"log_loss", "rmse", "mae"})
"""Metrics of which lower values are better; for all other built-in metrics, higher values are."""
LOSSES: dict[str, tuple[str, ...]] = {
    "binary": ("auto", "binary_cross_entropy"),
    "multiclass": ("auto", "cross_entropy"),
    "regression": ("auto", "mse", "mae", "huber"),
}
"""The losses that suit each kind of label."""
_REFERENCE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"

Reference = Annotated[str, Field(pattern=rf"^{_REFERENCE}$")]
"""`module:function`."""


def is_function_reference(name: str) -> bool:
    """Return whether a loss or metric is the user's own function, `module:function`."""
    return ":" in name


def metric_key(metric: str) -> str:
    """Return the name under which the values of a metric are stored: MLflow rejects a colon in a name."""
    return metric.replace(":", ".")


def metric_direction(metric: str, direction: str | None, field_path: str) -> str:
    """Return whether higher (`max`) or lower (`min`) values of a metric are better.

    Args:
        metric: The metric.
        direction: The direction that the user declared, if any.
        field_path: The part of the job file that uses the metric, for errors.

    Raises:
        ValueError: The metric is the user's own function, and no direction is declared.
    """
    if direction is None and is_function_reference(metric):
        raise ValueError(
            f"{field_path}.direction: is missing; write max if higher values of {metric} are better, min if lower"
        )
    return direction or ("min" if metric in LOWER_IS_BETTER else "max")


def _as_switch(value: object) -> object:
    """Return `off` and `auto` for what YAML makes of `off` and `on`."""
    return {False: "off", True: "auto"}[value] if isinstance(value, bool) else value


def _check_name(names: dict[str, tuple[str, ...]], value: str) -> str:
    known = list(dict.fromkeys(name for suitable in names.values() for name in suitable))
    if value in known or re.fullmatch(_REFERENCE, value):
        return value
    raise ValueError(f"{value} is not known; use {', '.join(known)}, or your own function: module:function")


Metric = Annotated[str, AfterValidator(lambda value: _check_name(METRICS, value))]
"""A metric by name, or `module:function`: receives outputs `[rows, num_outputs]` and labels `[rows]` of a whole split,
for a regression as float64 in the label's own units, returns a number."""
Loss = Annotated[str, AfterValidator(lambda value: _check_name(LOSSES, value))]
"""A loss by name, or `module:function`: receives outputs `[rows, num_outputs]` and labels `[rows]`, returns the loss
of each row, `[rows]`."""


Auto = Literal["auto"]
"""A value that `farandole.defaults` chooses before training from the number of rows, the label and the builder."""
_VALUE, _AUTO = Tag("value"), Tag("auto")
_BY_VALUE = Discriminator(lambda value: "auto" if value == "auto" else "value")
"""Chooses the branch before validation, so that a wrong number is reported as such and not as a wrong `auto` too."""

Count = Annotated[Annotated[int, Field(ge=1), _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE]
Rate = Annotated[Annotated[float, Field(gt=0), _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE]
Decay = Annotated[Annotated[float, Field(ge=0), _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE]
Smoothing = Annotated[Annotated[float, Field(ge=0, lt=1), _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE]


class Model(Spec):
    """Which network, and with which options."""

    builder: Reference
    """`module:function`. The module is beside the job file, or one of `farandole.models`. The function receives the
    dataset's schema and the options, and returns a `torch.nn.Module` that takes each feature group by name. If the
    module has a method `initialize_output(bias)`, it receives the log-odds or log-priors of the classes (zeros for a
    regression), `[num_outputs]`, before training starts. Likewise `initialize_inputs(**groups)` receives a sample of
    training rows, `forward` can learn from it how numbers are distributed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the builder."""


PLAIN_EPOCHS, PLAIN_GLOBAL_BATCH_SIZE, PLAIN_LEARNING_RATE, PLAIN_WEIGHT_DECAY = 10, 1024, 1e-3, 0.0
"""The values of `auto` for all builders but `farandole.models.tabular`, and where nothing has resolved it."""

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
"""Torch's optimizers that need no closure and accept every kind of parameter."""


class Optimizer(Spec):
    """The optimizer, which updates the weights."""

    name: OptimizerName = "adamw"
    """One of torch's optimizers."""
    learning_rate: Rate = "auto"
    """The highest learning rate that the schedule reaches. `auto`: see `train.epochs`; 0.001 for other builders."""
    base_batch_size: Annotated[int, Field(ge=1)] | None = None
    """The linear scaling rule (Goyal et al. 2017, section 2.1): the learning rate is meant for steps of this many
    rows, and is multiplied by `global_batch_size / base_batch_size`. It does not depend on the number of workers."""
    weight_decay: Decay = "auto"
    """Weight decay per step; applied to weight matrices, not to biases, norms and other vectors. `auto`: see
    `train.epochs`; 0 for other builders."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other keyword arguments of torch's class, for example `{betas: [0.9, 0.98]}`."""

    @property
    def rate(self) -> float:
        """The learning rate; an `auto` that nothing has resolved is the one for other builders."""
        return PLAIN_LEARNING_RATE if self.learning_rate == "auto" else self.learning_rate

    @property
    def decay(self) -> float:
        """The weight decay; an `auto` that nothing has resolved is that for other builders."""
        return PLAIN_WEIGHT_DECAY if self.weight_decay == "auto" else self.weight_decay

    @field_validator("options")
    @classmethod
    def _reject_fields(cls, value: dict[str, Any]) -> dict[str, Any]:
        for option, field in (("lr", "learning_rate"), ("weight_decay", "weight_decay"), ("params", None)):
            if option in value:
                raise ValueError(f"{option} has no effect here; " + (f"use `{field}`" if field else "remove it"))
        return value


class Schedule(Spec):
    """The learning rate as a function of the step."""

    name: Literal["constant", "linear", "cosine", "one_cycle", "plateau"] = "constant"
    """After the warm-up: constant; linear or cosine decay to `final` times the learning rate; `one_cycle` (Smith and
    Topin 2018): cosine growth from 1/25 of the learning rate, then cosine decay; `plateau`: multiplied by `factor`
    whenever `metric` has not improved in more than `patience` validations."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The fraction of all steps in which the learning rate rises from 0. For `one_cycle`, the fraction of the rising
    half; 0.3 if not set."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The fraction of the learning rate that is left at the end; for `plateau`, the smallest fraction."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """`plateau`: the factor that the learning rate is multiplied by."""
    patience: Annotated[int, Field(ge=0)] = 5
    """`plateau`: the number of consecutive validations without improvement that are tolerated."""
    metric: Metric | None = None
    """`plateau`: which validation metric. Default: the first of the job's metrics."""
    direction: Literal["max", "min"] | None = None
    """`plateau`: whether higher or lower values are better. Default: by the metric."""

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
    """Which validation metric. Default: the first of the job's metrics; in place of one that ranks rows, the log loss
    where validation has fewer than 10 rows of a class."""
    direction: Literal["max", "min"] | None = None
    """Whether higher or lower values are better. Default: by the metric."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Training ends after this many consecutive validations without improvement."""
    min_change: Annotated[float, Field(ge=0)] = 0.0
    """How much better than the best a value must be to count as an improvement."""
    restore_best: bool = True
    """At the end, use the weights of the best validation. `false` is the same as `train.keep: last`."""


class Ema(Spec):
    """An exponential moving average of the weights, which is validated, tested and logged in their place."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """The fraction of the average that is kept at each step; less in the first steps: `(1 + step) / (10 + step)`."""


class Refit(Spec):
    """A last phase of training, in which the validation rows are learned as well.

    It begins with the weights that would be the model's. Each of its batches has as many training rows as validation
    rows, and the learning rate falls to 0. Validation metrics are those of the weights before it.
    """

    epochs: Annotated[int, Field(ge=1)] = 6
    """The number of passes over the validation split."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The highest learning rate, as a fraction of the optimizer's."""


class Checkpoint(Spec):
    """Frequency and location of checkpoints, from which an interrupted training resumes."""

    every_epochs: Annotated[int, Field(ge=1)] = 1
    """Save after every this many epochs. The last epoch is always saved."""
    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Save after every this many steps as well."""
    every_minutes: Annotated[float, Field(gt=0)] | None = None
    """Save as well when the last checkpoint is this many minutes old."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many of the newest checkpoints are kept."""
    keep_best: Annotated[int, Field(ge=0)] = 0
    """How many more checkpoints are kept: those of the epochs with the best validation."""
    best_metric: str | None = None
    """The validation metric that decides which are best. Default: the first of the job's metrics."""
    best_is: Literal["auto", "highest", "lowest"] = "auto"
    """Which value of the metric is the best. `auto`: the lowest of an error, the highest of any other metric."""
    directory: PathText | None = None
    """The location of checkpoints, a path or a URI such as `s3://bucket/folder`; each job has its own folder in it,
    named by its id. Default: the job's directory in FARANDOLE_HOME. Only the first worker reads and writes there."""
    asynchronous: bool = True
    """Copy the state and let a thread write it while training continues. This takes memory for one more copy of the
    model and its optimizer. `false`: training waits until the checkpoint is on disk."""

    @field_validator("directory")
    @classmethod
    def _require_writable(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("package://"):
            raise ValueError("packages are read-only; give a path, or a URI such as s3://BUCKET/FOLDER")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        without_effect = non_default_fields(self, "best_metric", "best_is")
        if not self.keep_best and without_effect:
            raise ValueError(f"{' and '.join(without_effect)} without effect: set keep_best to keep the best")
        return self

    def is_lower_better(self, metric: str) -> bool:
        """Return whether the lowest value of a metric is the best."""
        return metric in LOWER_IS_BETTER if self.best_is == "auto" else self.best_is == "lowest"


class Train(Spec):
    """The training of the model."""

    script: Annotated[str, Field(min_length=1)] | None = None
    """Your own training script in place of the trainer, a Python file in the job's folder. Each worker runs it; it
    saves and resumes with `farandole.Checkpoint`, and reports with `farandole.report`."""
    args: tuple[str, ...] = ()
    """The script's arguments."""
    epochs: Count = "auto"
    """The number of passes over the training split. `auto`: for `farandole.models.tabular`, chosen from the number of
    rows and the kind of label (`farandole plan` shows the value; farandole/defaults.py explains it); 10 for other
    builders."""
    global_batch_size: Count = "auto"
    """Rows of one optimizer step, over all workers. It need not be a multiple of the number of workers. `auto`: see
    `epochs`; 1024 for other builders."""
    tail: Literal["weight", "drop"] = "weight"
    """The rows that do not fill the last batch of an epoch: `weight` makes one smaller batch of them,
    `drop` skips them (other rows in every epoch)."""
    optimizer: Optimizer = Optimizer()
    """How gradients update the weights."""
    schedule: Annotated[Annotated[Schedule, _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE] = "auto"
    """The learning rate over the steps. `auto`: see `epochs`; constant for other builders."""
    distill: Distill | None = None
    """A trained model that the network learns from as well, usually a larger one."""
    prune: Prune | None = None
    """A trained model to start from, most of whose weights stay 0."""
    augment: Annotated[dict[Identifier, Augment], Field(json_schema_extra=IDENTIFIERS_ONLY)] = Field(
        default_factory=dict
    )
    """Feature group to the random augmentation of its training rows. It depends on the seed, the epoch and the row
    alone; validation and test rows are never augmented."""
    accumulate_steps: Annotated[int, Field(ge=1)] = 1
    """Each worker computes its rows of a global batch in this many pieces, to need less memory. The global batch and,
    up to rounding, the result stay the same; gradients are summed over the workers once for each batch."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """The precision of the network's computations: weights and gradients are float32, and torch's autocast applies.
    fp16 scales the loss, and skips steps whose gradients overflow."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """The largest norm of the gradient of the global batch."""
    compression: Literal["none", "fp16"] = "none"
    """`fp16`: gradients are sent between workers in half precision."""
    loss: Loss = "auto"
    """`auto`: binary or multiclass cross-entropy, or the mean squared error, depending on the label. Or your own
    function, `module:function`: receives outputs `[rows, num_outputs]` and labels `[rows]`, for a regression scaled as
    `data.label.scale` says, returns the loss of each row."""
    label_smoothing: Smoothing = "auto"
    """The fraction of each label's weight that is spread evenly over all classes (Szegedy et al. 2016, section 7).
    `auto`: see `epochs`; 0 for other builders."""
    class_weights: Literal["balanced"] | tuple[PositiveFloat, ...] | dict[str, PositiveFloat] | None = None
    """The weight of a row's loss: by class in the dataset's order, by the class's name (others weigh 1), or `balanced`,
    which gives all classes the same total weight."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] | None = None
    """The metrics that are measured on validation and test. Default: all that suit the label. Or your own functions,
    `module:function`: they receive outputs and labels of a whole split, for a regression as float64 in the units of the
    label's column, and return a number."""
    keep: Literal["best", "last"] = "best"
    """`best`: the weights of the epoch with the best validation, by `early_stopping.metric` or its default, are
    tested and logged; this takes host memory for one more copy of the weights, also in checkpoints.
    `last`: those of the last epoch, as always where there are no validation rows."""
    baseline: Annotated[Literal["auto", "trivial", "off"], BeforeValidator(_as_switch)] = "auto"
    """Models that the result is compared with on the test split. `trivial`: the mean, or the frequencies of the
    classes; a model that does not beat it is not registered. `auto`: for tables also scikit-learn's
    HistGradientBoosting with its defaults, on at most 100,000 training rows, in a process beside the training. `off`:
    nothing."""
    early_stopping: Annotated[Annotated[EarlyStopping | None, _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE] = "auto"
    """When training ends before its last epoch; `null`: never. `auto`: see `epochs`; never for other builders."""
    ema: Annotated[Annotated[Ema | None, _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE] = "auto"
    """An average of the weights that replaces them when training ends; `null`: none. `auto`: see `epochs`; none for
    other builders."""
    refit: Annotated[Annotated[Refit | None, _VALUE] | Annotated[Auto, _AUTO], _BY_VALUE] = "auto"
    """A last phase in which the validation rows are learned too, once they have chosen the best epoch; `null`: none.
    `auto`: for `farandole.models.tabular` with `data.split.time`, where they are newer than all training rows; not
    otherwise."""
    shard_optimizer: bool = False
    """Each worker keeps only the optimizer state of its part of the weights (ZeRO stage 1, Rajbhandari et al. 2020,
    section 5.1): with N workers 1/N of the memory. The result is the same."""
    horovod: Horovod = Horovod()
    """How gradients are summed over the workers."""
    compile: bool = False
    """Compile the network with `torch.compile`: the first steps take minutes, later ones may be faster."""
    channels_last: bool = False
    """Store the weights of convolutions in the memory order of images."""
    explain: bool = False
    """Explain the model by its test rows, for at most about a minute: which columns it depends on, and how. Plots and
    numbers are in the MLflow run under `explanations/`. Needs `pip install 'farandole[explain]'`; `farandole explain`
    does the same later."""
    profile: bool = False
    """Write a torch trace of a few steps of each worker and Horovod's timeline into the job's directory and to
    MLflow."""
    checkpoint: Checkpoint = Checkpoint()
    """How often the training state is saved."""
    log_every_steps: Annotated[int, Field(ge=1)] = 50
    """The number of steps between two training losses in MLflow."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """The seed of the initial weights, dropout and the order of rows."""

    # The numbers behind fields that may be `auto`. Training reads these. `farandole.defaults` has replaced each `auto`
    # before; where nothing has, as in a test of a part, they return the values for other builders.

    @property
    def num_epochs(self) -> int:
        """The number of passes over the training split."""
        return PLAIN_EPOCHS if self.epochs == "auto" else self.epochs

    @property
    def batch_rows(self) -> int:
        """Rows of one optimizer step, over all workers."""
        return PLAIN_GLOBAL_BATCH_SIZE if self.global_batch_size == "auto" else self.global_batch_size

    @property
    def learning_rate(self) -> float:
        """The highest learning rate, scaled to the global batch if `base_batch_size` is set."""
        base = self.optimizer.base_batch_size
        return self.optimizer.rate * (self.batch_rows / base if base else 1.0)

    @property
    def learning_rate_schedule(self) -> Schedule:
        """The learning rate as a function of the step."""
        return Schedule() if self.schedule == "auto" else self.schedule

    @property
    def stopping(self) -> EarlyStopping | None:
        """When training ends before its last epoch."""
        return None if self.early_stopping == "auto" else self.early_stopping

    @property
    def average(self) -> Ema | None:
        """The average of the weights that replaces them."""
        return None if self.ema == "auto" else self.ema

    @property
    def last_phase(self) -> Refit | None:
        """The phase in which the validation rows are learned as well."""
        return None if self.refit == "auto" else self.refit

    @property
    def smoothing(self) -> float:
        """The fraction of each label's weight that is spread over all classes."""
        return 0.0 if self.label_smoothing == "auto" else self.label_smoothing

    @property
    def trained_models(self) -> dict[str, Distill | Prune]:
        """The parts that name trained models, by field."""
        parts = {"distill": self.distill, "prune": self.prune}
        return {name: part for name, part in parts.items() if part is not None}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.global_batch_size != "auto" and self.accumulate_steps > self.global_batch_size:
            raise ValueError(
                f"accumulate_steps: {self.accumulate_steps} pieces of a global batch of {self.global_batch_size} rows"
                f" leave pieces without a row; use at most {self.global_batch_size}"
            )
        if self.shard_optimizer and self.optimizer.name == "adafactor":
            raise ValueError(
                "shard_optimizer: adafactor needs the rows and columns of whole matrices and cannot be sharded; use"
                " another optimizer, or remove it"
            )
        if self.shard_optimizer and self.horovod.adasum:
            raise ValueError("horovod.adasum: cannot be used with shard_optimizer, which needs sums; remove one")
        if is_function_reference(self.loss) and (self.smoothing or self.class_weights):
            raise ValueError(
                f"label_smoothing and class_weights have no effect on {self.loss}; remove them, and apply them in the"
                " function"
            )
        if self.horovod.predivide_factor != 1.0 and self.compression == "none":
            raise ValueError("horovod.predivide_factor: has no effect without `compression: fp16`; remove it")
        return self
