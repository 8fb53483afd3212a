"""The job file as a whole, and the rules that involve several of its parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, model_validator

from farandole.errors import SpecError, closest_match
from farandole.spec.backend import Backend
from farandole.spec.base import INTERNAL, Spec, non_default_fields
from farandole.spec.data import Data
from farandole.spec.feature_groups import feature_groups
from farandole.spec.resources import Resources
from farandole.spec.serve import Serve
from farandole.spec.sweep import Sweep
from farandole.spec.tracking import Tracking
from farandole.spec.train import LOSSES, METRICS, Model, Train, is_function_reference, metric_direction, metric_key

_NAME = r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$"
_SCRIPT_FIELDS = frozenset({"script", "args", "checkpoint"})
"""The fields of `train` that concern a script of the user's; all others are settings of the trainer."""
_NO_DATA = Data.model_construct(sources={}, features={})
"""The data of a job whose script reads its own."""


def is_job_name(text: str) -> bool:
    """Return whether a job can have this name."""
    return re.fullmatch(_NAME, text) is not None


class Job(Spec):
    """One job: the data, the model, the training, the resources, and where runs are recorded."""

    name: Annotated[str, Field(pattern=_NAME)]
    """Lower-case letters, digits and `-`, at most 53: it also names Kubernetes objects."""
    data: Data
    """From raw files to a dataset directory."""
    model: Model | None = None
    """Which network. A job with neither a model nor `train.script` only prepares a dataset."""
    train: Train = Train()
    """How the model is fitted."""
    resources: Resources = Resources()
    """The workers and machines of the job."""
    tracking: Tracking = Tracking()
    """Where the MLflow run is recorded."""
    backend: Backend = Backend()
    """Where the job runs when it is submitted."""
    sweep: Sweep | None = None
    """Which fields `farandole sweep` varies; all other commands ignore it."""
    serve: Serve | None = None
    """The settings of `farandole serve` for the job's model; all other commands but `farandole deploy` ignore it."""
    folder: str | None = Field(default=None, json_schema_extra=INTERNAL)
    """The folder of the user's modules. Default: the job file's folder."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any, info: ValidationInfo) -> Any:
        """Fill in the folder, and `{name}` in the fields that may contain it."""
        if not isinstance(raw, dict):
            return raw
        raw = {**raw}
        folder = (info.context or {}).get("folder") or "."
        if isinstance(raw.get("folder", ""), str):
            raw["folder"] = str(Path(folder, raw.get("folder") or ".").absolute())
        if isinstance(train := raw.get("train"), dict) and train.get("script") and not _has_sources(raw.get("data")):
            raw["data"] = _NO_DATA
        name = raw.get("name")
        if isinstance(name, str):
            if isinstance(raw.get("data"), dict):
                output = raw["data"].get("output", Data.model_fields["output"].default)
                raw["data"] = {**raw["data"], "output": _insert_name(output, name)}
            if isinstance(raw.get("tracking", {}), dict):
                tracking = raw.get("tracking", {})
                named = {
                    field: _insert_name(tracking.get(field, Tracking.model_fields[field].default), name)
                    for field in ("experiment", "register_as")
                }
                raw["tracking"] = {**tracking, **named}
        return raw

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            *self._script_problems(),
            *self._batch_problems(),
            *self._label_problems(),
            *self._augment_problems(),
            *self._checkpoint_problems(),
            *self._sweep_problems(),
            *(self.serve.problems() if self.serve is not None else ()),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _script_problems(self) -> list[str]:
        script, train = self.train.script, self.train
        if script is None:
            return ["train.args: only for `train.script`; remove them"] if train.args else []
        problems = []
        if self.model is not None:
            problems.append("train.script: builds its network itself; remove `model`, or remove the script")
        if self.sweep is not None:
            problems.append("sweep: varies the settings of the trainer, which `train.script` replaces; remove it")
        if Path(script).is_absolute() or ".." in Path(script).parts or not script.endswith(".py"):
            problems.append(f"train.script: {script}: give a Python file by its path inside the job's folder: train.py")
        without_effect = non_default_fields(train, *(name for name in Train.model_fields if name not in _SCRIPT_FIELDS))
        if without_effect:
            problems.append(
                f"train: {', '.join(without_effect)} without effect beside `script`; pass it to the script by `args`"
            )
        return problems

    def _batch_problems(self) -> list[str]:
        rows, workers = self.train.batch_rows, self.resources.workers
        if rows >= workers or self.train.global_batch_size == "auto" or self.train.script is not None:
            return []
        return [
            f"train.global_batch_size: {rows} rows for {workers} workers leave {workers - rows} without a row; use at"
            f" least {workers}"
        ]

    def _label_problems(self) -> list[str]:
        if self.data.label is None:
            return []  # the dataset can be prepared; `train` and `plan` report what is missing
        kind, train = self.data.label.kind, self.train
        if kind == "auto":
            return []  # checked when the kind is known
        named = [("metrics", metric, METRICS[kind]) for metric in train.metrics or ()]
        problems = [
            f"train.{field}: {value} does not suit a {kind} label; use {', '.join(suitable)}"
            for field, value, suitable in [*named, ("loss", train.loss, LOSSES[kind])]
            if value not in suitable and not is_function_reference(value)
        ]
        if kind == "regression":
            problems += [
                f"train.{field}: a regression has no classes; remove it"
                for field, value in (("label_smoothing", train.smoothing), ("class_weights", train.class_weights))
                if value
            ]
        return problems + self._monitored_metric_problems()

    def _monitored_metric_problems(self) -> list[str]:
        """Check the metrics that control the learning rate and early stopping."""
        problems = []
        schedule = self.train.learning_rate_schedule
        plateau = schedule if schedule.name == "plateau" else None
        for part, monitor in (("schedule", plateau), ("early_stopping", self.train.stopping)):
            if monitor is None:
                continue
            metric = monitor.metric or self.metrics[0]
            if metric not in self.metrics:
                problems.append(f"train.{part}.metric: {metric} is not measured; use {', '.join(self.metrics)}")
                continue
            try:
                metric_direction(metric, monitor.direction, f"train.{part}")
            except ValueError as error:
                problems.append(str(error))
        return problems

    def _augment_problems(self) -> list[str]:
        kinds = feature_groups(self.data.features)
        problems: list[str] = []
        if self.data.auto_features is not None:
            return problems  # checked when the features are known
        for name, augment in self.train.augment.items():
            field_path = f"train.augment.{name}"
            if name not in kinds:
                close = closest_match(name, list(kinds))
                hint = f"did you mean {close}?" if close else f"the groups are {', '.join(kinds)}"
                problems.append(f"{field_path}: no feature belongs to the group {name}; {hint}")
            elif kinds[name] != augment.kind:
                problems.append(f"{field_path}.kind: {augment.kind}, but the group holds {kinds[name]}; write that")
        return problems

    def _checkpoint_problems(self) -> list[str]:
        metric = self.train.checkpoint.best_metric
        if metric is None or not self.metrics or metric in self.metrics:
            return []
        close = closest_match(metric, list(self.metrics))
        hint = f"did you mean {close}?" if close else f"use {', '.join(self.metrics)}"
        return [f"train.checkpoint.best_metric: {metric} is not measured; {hint}"]

    def _sweep_problems(self) -> list[str]:
        if self.sweep is None or self.data.label is None or self.data.label.kind == "auto":
            return []
        metric = self.sweep.metric or self.metrics[0]
        if metric not in self.metrics:
            return [
                f"sweep.metric: {metric} is not measured; use {', '.join(self.metrics)}, or add it to train.metrics"
            ]
        if self.sweep.goal(metric) is None:
            return [f"sweep.direction: is missing for {metric}, your own metric; write minimize or maximize"]
        return []

    @property
    def has_data(self) -> bool:
        """True if the job prepares a dataset; one with a script of its own need not."""
        return bool(self.data.sources)

    @property
    def has_training(self) -> bool:
        """True if there is something to train: a model, or a script."""
        return self.model is not None or self.train.script is not None

    @property
    def network(self) -> Model:
        """The `model` part of a job that trains.

        Raises:
            SpecError: The job has none.
        """
        if self.model is None:
            raise SpecError("model: is missing, so only a dataset can be prepared; add a `model` to train")
        return self.model

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics to measure, in the order in which they are shown."""
        return self.train.metrics or (METRICS.get(self.data.label.kind, ()) if self.data.label else ())

    @property
    def metric_keys(self) -> tuple[str, ...]:
        """The names under which the values of these metrics are stored."""
        return tuple(metric_key(metric) for metric in self.metrics)


def _has_sources(data: Any) -> bool:
    return data is not None and data is not _NO_DATA and not (isinstance(data, dict) and data.get("sources") == {})


def _insert_name(template: Any, name: str) -> Any:
    return template.replace("{name}", name) if isinstance(template, str) else template
