"""The `train.checkpoint` part of a job file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from farandole.spec.base import PathText, Spec, non_default_fields

LOWER_IS_BETTER = frozenset({"log_loss", "rmse", "mae"})
"""Metrics of which less is better; of all others that have a name, more is."""


class Checkpoint(Spec):
    """How often the state is saved, so that a broken training can go on, and where."""

    every_epochs: Annotated[int, Field(ge=1)] = 1
    """Save after every so many epochs. The last epoch is always saved."""
    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Save after every so many steps as well."""
    every_minutes: Annotated[float, Field(gt=0)] | None = None
    """Save as well when the last checkpoint is so many minutes old."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many of the newest checkpoints are kept."""
    keep_best: Annotated[int, Field(ge=0)] = 0
    """How many of the best are kept besides: those of epochs that validated best."""
    best_metric: str | None = None
    """Which validation metric tells the best. Default: the first of the job's metrics."""
    best_is: Literal["auto", "highest", "lowest"] = "auto"
    """Which value of the metric is the best. `auto`: the lowest of an error, the highest of any other metric."""
    directory: PathText | None = None
    """Where checkpoints lie, a path or a URI such as `s3://bucket/folder`; each job has a folder of its own in it,
    named by its id. Default: the job's directory in FARANDOLE_HOME. Only the first worker writes and reads there."""
    asynchronous: bool = True
    """Copy the state and let a thread write it while training goes on. It takes memory for one more copy of the model
    and its optimizer. `false`: training waits until the checkpoint is on the disk."""

    @field_validator("directory")
    @classmethod
    def _writable(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("package://"):
            raise ValueError("packages cannot be written to; give a path, or a URI such as s3://BUCKET/FOLDER")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        without_effect = non_default_fields(self, "best_metric", "best_is")
        if not self.keep_best and without_effect:
            raise ValueError(f"{' and '.join(without_effect)} without effect: set keep_best to keep the best")
        return self

    def is_lower_better(self, metric: str) -> bool:
        """Whether the lowest value of a metric is the best."""
        return metric in LOWER_IS_BETTER if self.best_is == "auto" else self.best_is == "lowest"
