"""Values of the fields that are `auto`: the heuristics of training, all in this file.

`resolve` replaces every `auto` of a job once, before the first worker starts, so that workers, checkpoints, sweeps and
MLflow see numbers. It depends on nothing but the job and the dataset, so a job that is retried gets the same numbers.

For builders other than `farandole.models.tabular` the values are constants (`PLAIN_…` in `farandole.spec`). For the
tabular network they follow from the number of training rows; docs/decisions/0032 has the measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from farandole.shards import Manifest
from farandole.spec import (
    PLAIN_EPOCHS,
    PLAIN_GLOBAL_BATCH_SIZE,
    PLAIN_LEARNING_RATE,
    PLAIN_WEIGHT_DECAY,
    EarlyStopping,
    Ema,
    Job,
    Optimizer,
    Refit,
    Schedule,
    Train,
    is_function_reference,
)

TABULAR = "farandole.models.tabular:build"
"""The builder that has defaults of its own."""

LabelKind = Literal["binary", "multiclass", "regression"]

_LEARNING_RATE = 0.02
_WEIGHT_DECAY = 0.02
_BETAS = [0.9, 0.95]
"""RealMLP (arXiv 2407.04491), section 3: the second moment follows the gradient faster than torch's 0.999."""
_STEPS_PER_EPOCH = 24
"""Batches grow with the number of rows so that an epoch has about this many steps, …"""
_MIN_BATCH, _MAX_BATCH = 32, 1024
"""… but within these limits: smaller batches cost more time per row, larger ones learn less per row."""
_ROWS_IN_ALL = 900_000
"""Rows of all epochs together: about 20 s on two cores."""
_EPOCHS: dict[LabelKind, int] = {"binary": 16, "multiclass": 40, "regression": 30}
"""Epochs where that leaves time for them: two classes, which are often noisy, are learned by heart sooner. …"""
_MANY_ROWS, _MAX_EPOCHS_OF_MANY_ROWS = 8_000, 24
"""… Above this number of rows, the epochs of two classes grow with its root. …"""
_SMALL_ROWS, _MAX_EPOCHS_OF_SMALL_ROWS = 2_000, 80
"""… Below this one, those of a regression grow with the root of what is missing: an epoch has few steps then."""
_DROPOUT: dict[LabelKind, float] = {"binary": 0.1, "multiclass": 0.0, "regression": 0.0}
_SMOOTHING: dict[LabelKind, float] = {"binary": 0.0, "multiclass": 0.1, "regression": 0.0}
"""Smoothed labels keep the log loss of several classes, which chooses their best epoch, in step with the accuracy."""
_MIN_EPOCHS, _MIN_STEPS = 3, 200
"""The least, of large tables and of small ones."""
_MIN_PATIENCE = 5
_SERIAL_BATCH = 256
"""Steps of at most this many rows run in one thread: a second one waits at each of their many small operations, longer
than it helps where other processes use the cores, such as the baseline."""
_AVERAGED_SHARE, _MIN_AVERAGED_STEPS = 1 / 24, 2
"""The average of the weights extends over this share of all steps: about an epoch of a table of a few thousand rows."""
_FEW_ROWS = 20_000
_MEMBERS_OF_FEW_ROWS, _MEMBERS = 16, 8
"""More members are better, but each costs time."""
_MIN_INTERVALS, _MAX_INTERVALS = 4, 48
"""Intervals of the encoding of a number: sqrt(rows) / 2, so that small tables have enough rows in each. The network
takes fewer if there are many numbers."""


@dataclass(frozen=True)
class Table:
    """The properties of a dataset that the defaults depend on.

    Args:
        rows: Rows of the training split.
        label: The kind of label.
        has_validation: Whether there are validation rows.
    """

    rows: int
    label: LabelKind
    has_validation: bool = True

    @classmethod
    def of(cls, manifest: Manifest) -> Table:
        """Return the properties of a prepared dataset."""
        return cls(manifest.rows("train"), manifest.columns.target.kind, manifest.rows("validation") > 0)


def resolve(job: Job, manifest: Manifest) -> Job:
    """Return the job with a value in place of each `auto` of its training and model.

    Args:
        job: The job; one without a model is returned unchanged.
        manifest: The dataset that it is trained on.
    """
    return resolve_for(job, Table.of(manifest)) if job.model is not None and manifest.columns.label else job


def resolve_for(job: Job, table: Table | None) -> Job:
    """Return the job with a value in place of each `auto`, for a table that may not exist yet.

    Args:
        job: The job.
        table: The table, perhaps estimated. None: it is not known; then what depends on it stays `auto`.
    """
    if job.model is None:
        return job
    if job.model.builder != TABULAR:
        return _filled(job, _plain(), {})
    if table is None:
        return job
    filled = _filled(job, _tabular(table, job), tabular_options(table.rows, table.label))
    resources = job.resources
    if resources.cpus is None and not resources.gpus and filled.train.batch_rows <= _SERIAL_BATCH * resources.workers:
        resources = resources.model_copy(update={"cpus": 1})
    return filled.model_copy(update={"resources": resources})


def _plain() -> Train:
    optimizer = Optimizer(learning_rate=PLAIN_LEARNING_RATE, weight_decay=PLAIN_WEIGHT_DECAY)
    return Train(
        epochs=PLAIN_EPOCHS,
        global_batch_size=PLAIN_GLOBAL_BATCH_SIZE,
        optimizer=optimizer,
        schedule=Schedule(),
        label_smoothing=0.0,
        early_stopping=None,
        ema=None,
        refit=None,
    )


def _tabular(table: Table, job: Job) -> Train:
    smoothing = 0.0 if is_function_reference(job.train.loss) else _SMOOTHING[table.label]
    optimizer = Optimizer(learning_rate=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, options={"betas": _BETAS})
    return Train(
        epochs=epochs_for(table.rows, table.label),
        global_batch_size=batch_for(table.rows),
        optimizer=optimizer,
        schedule=Schedule(name="cosine", warmup=0.05),
        label_smoothing=smoothing,
        early_stopping=_early_stopping(table, job),
        ema=_average(table, job.train),
        refit=Refit() if table.has_validation and job.data.split.time is not None else None,
    )


def _average(table: Table, train: Train) -> Ema | None:
    """Return the average over a fixed share of all steps; None if these are too few.

    It makes the validation of an epoch in the middle, at a high learning rate, as steady as that of the last ones, so
    that the best epoch is not a lucky one.
    """
    epochs = epochs_for(table.rows, table.label) if train.epochs == "auto" else train.epochs
    batch = batch_for(table.rows) if train.global_batch_size == "auto" else train.global_batch_size
    steps = epochs * math.ceil(table.rows / batch) * _AVERAGED_SHARE
    return Ema(decay=round(1 - 1 / steps, 5)) if steps > _MIN_AVERAGED_STEPS else None


def _early_stopping(table: Table, job: Job) -> EarlyStopping | None:
    """Return when training ends early, and by which metric the best epoch is chosen.

    On few validation rows the accuracy and the ROC AUC are the same in many epochs, or reach their highest value while
    the network still learns: the log loss shows the differences. A loss of the user, or one that weights the classes,
    does not lead to probabilities, so that the log loss of two classes says little there.
    """
    if not table.has_validation or is_function_reference(job.metrics[0]):
        return None
    predicts_shares = job.train.class_weights is None and not is_function_reference(job.train.loss)
    by_loss = "log_loss" in job.metrics and (predicts_shares or table.label == "multiclass")
    metric = "log_loss" if by_loss else job.metrics[0]
    return EarlyStopping(metric=metric, patience=max(_MIN_PATIENCE, epochs_for(table.rows, table.label) // 3))


def tabular_options(rows: int, label: LabelKind) -> dict[str, Any]:
    """Return the options of the tabular network that depend on the table."""
    intervals = min(max(round(math.sqrt(rows) / 2), _MIN_INTERVALS), _MAX_INTERVALS)
    members = _MEMBERS_OF_FEW_ROWS if rows < _FEW_ROWS else _MEMBERS
    return {"members": members, "intervals": intervals, "dropout": _DROPOUT[label]}


def chosen_values(job: Job, resolved: Job) -> dict[str, Any]:
    """Return the values that `resolve` chose, by their path in the job file."""
    before, after = (_flat(each) for each in (job, resolved))
    return {path: value for path, value in after.items() if before.get(path) != value and value != "auto"}


def _flat(job: Job) -> dict[str, Any]:
    train = job.train
    stopping = train.early_stopping
    schedule = train.schedule if train.schedule == "auto" else train.schedule.name
    values: dict[str, Any] = {
        "train.epochs": train.epochs,
        "train.global_batch_size": train.global_batch_size,
        "train.optimizer.learning_rate": train.optimizer.learning_rate,
        "train.optimizer.weight_decay": train.optimizer.weight_decay,
        "train.schedule.name": schedule,
        "train.label_smoothing": train.label_smoothing,
        "resources.cpus": job.resources.cpus,
        "train.early_stopping.patience": stopping if isinstance(stopping, str | None) else stopping.patience,
        "train.early_stopping.metric": stopping if isinstance(stopping, str | None) else stopping.metric,
        "train.ema.decay": train.ema if isinstance(train.ema, str | None) else train.ema.decay,
        "train.refit.epochs": train.refit if isinstance(train.refit, str | None) else train.refit.epochs,
    }
    return values | {f"model.options.{name}": value for name, value in job.network.options.items()}


def batch_for(rows: int) -> int:
    """Return the rows of a step: a power of two that grows with the table."""
    wanted = 1 << round(math.log2(max(rows / _STEPS_PER_EPOCH, 1)))
    return min(max(wanted, _MIN_BATCH), _MAX_BATCH)


def epochs_for(rows: int, label: LabelKind) -> int:
    """Return the number of passes over the training split."""
    rows = max(rows, 1)
    wanted = _EPOCHS[label]
    if label == "binary" and rows > _MANY_ROWS:
        wanted = min(round(wanted * math.sqrt(rows / _MANY_ROWS)), _MAX_EPOCHS_OF_MANY_ROWS)
    elif label == "regression" and rows < _SMALL_ROWS:
        wanted = min(round(wanted * math.sqrt(_SMALL_ROWS / rows)), _MAX_EPOCHS_OF_SMALL_ROWS)
    wanted = max(wanted, math.ceil(_MIN_STEPS / math.ceil(rows / batch_for(rows))))
    return max(min(wanted, round(_ROWS_IN_ALL / rows)), _MIN_EPOCHS)


def _filled(job: Job, chosen: Train, options: dict[str, Any]) -> Job:
    """Return the job with the chosen values where its own are `auto`, and options that it does not set."""
    train, model = job.train, job.network
    fields = ("epochs", "global_batch_size", "schedule", "label_smoothing", "early_stopping", "ema", "refit")
    update: dict[str, Any] = {name: getattr(chosen, name) for name in fields if getattr(train, name) == "auto"}
    update["optimizer"] = _filled_optimizer(train.optimizer, chosen.optimizer)
    filled = model.model_copy(update={"options": {**options, **model.options}})
    return job.model_copy(update={"train": train.model_copy(update=update), "model": filled})


def _filled_optimizer(own: Optimizer, chosen: Optimizer) -> Optimizer:
    fields = ("learning_rate", "weight_decay")
    update: dict[str, Any] = {name: getattr(chosen, name) for name in fields if getattr(own, name) == "auto"}
    if own.learning_rate == "auto" and own.name in _WITH_BETAS:
        update["options"] = {**chosen.options, **own.options}
    return own.model_copy(update=update)


_WITH_BETAS = ("adamw", "adam")
