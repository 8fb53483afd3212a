"""The `sweep` part of a job file: which fields vary, and how their best values are searched."""

from __future__ import annotations

import itertools
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from farandole.spec.base import Spec
from farandole.spec.train import LOWER_IS_BETTER

_PARTS = ("model", "train", "resources")
_HIGHER_IS_BETTER = ("roc_auc", "average_precision", "accuracy", "r2")

Number = int | float


class Dimension(Spec):
    """The values of one field: an interval (`low`, `high`), or `choices`."""

    low: Number | None = None
    """The smallest value. If `low` and `high` are integers, all values are."""
    high: Number | None = None
    """The largest value."""
    step: Number | None = None
    """The distance between two values, starting at `low`."""
    log: bool = False
    """Sample on a logarithmic scale: for learning rates and sizes."""
    choices: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """The values themselves: words, numbers, lists, mappings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choices is not None:
            if any(value is not None for value in (self.low, self.high, self.step)) or self.log:
                raise ValueError("`choices` already lists all values; remove low, high, step and log")
            labels = [json.dumps(choice) for choice in self.choices]
            if len(set(labels)) < len(labels):
                raise ValueError(f"choices: {', '.join(labels)}: a value is listed twice; remove one")
            return self
        if self.low is None or self.high is None:
            raise ValueError("write `low` and `high`, or `choices`")
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is larger than high: {self.high}; swap them")
        if self.log and self.low <= 0:
            raise ValueError(f"low: {self.low} has no logarithm; use a `low` above 0, or remove `log`")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step: {self.step}: must be above 0")
        if self.step is not None and self.log:
            raise ValueError("step has no effect on a logarithmic scale; remove it, or `log`")
        if self.is_integer and isinstance(self.step, float):
            raise ValueError(f"step: {self.step}: between integers it must be an integer")
        return self

    @property
    def is_integer(self) -> bool:
        """True if all values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values to validate: if these are valid, all are."""
        return self.choices or (self.low, self.high)

    @property
    def grid(self) -> tuple[Any, ...] | None:
        """All values in order; None if they are not a finite list."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.is_integer and not self.log else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.low + index * step for index in range(count))

    def __str__(self) -> str:
        """Return the values as the user would write them."""
        if self.choices is not None:
            return " | ".join(json.dumps(choice) for choice in self.choices)
        step = f" by {self.step}" if self.step else ""
        return f"{self.low} to {self.high}{step}{' (log)' if self.log else ''}"


class Sweep(Spec):
    """A search for the best values of some fields: the job is trained many times with different values."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Field of the job file (`train.optimizer.learning_rate`) to its values. Fields of `model`, `train` and `resources`
    can vary; the dataset is prepared once."""
    trials: Annotated[int, Field(ge=1)] = 20
    """The number of trainings."""
    sampler: Literal["random", "tpe", "grid"] = "tpe"
    """How values are chosen: at random; near those that performed well (TPE, Bergstra et al. 2011); or all, in
    order."""
    pruner: Literal["none", "median"] = "median"
    """`median` stops a trial whose best validation so far is worse than the median of the others at that epoch."""
    startup_trials: Annotated[int, Field(ge=1)] = 5
    """The number of trials that are drawn at random, and that must end before any trial is pruned."""
    metric: str | None = None
    """The validation metric. Default: the job's first one."""
    direction: Literal["minimize", "maximize"] | None = None
    """Which values of the metric are good. Default: by the metric."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """No trial starts after this many seconds."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The seed of the sampler."""
    parallel: Annotated[int, Field(ge=1)] = 1
    """The number of concurrent trials. Each uses its own `resources`."""

    @field_validator("space")
    @classmethod
    def _check_parts(cls, value: dict[str, Dimension]) -> dict[str, Dimension]:
        for field in value:
            part = field.partition(".")[0]
            if part not in _PARTS or not all(field.split(".")) or part == field:
                raise ValueError(
                    f"{field}: only fields of {', '.join(_PARTS)} can vary (train.optimizer.learning_rate), because the"
                    " dataset is prepared once"
                )
        return value

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.sampler == "grid":
            for field, dimension in self.space.items():
                if dimension.grid is None:
                    raise ValueError(f"space.{field}: has infinitely many values for a grid; set `step` or `choices`")
        return self

    @property
    def points(self) -> list[dict[str, Any]]:
        """All combinations of values, the last field changing fastest; empty if a field has no finite list."""
        grids = [dimension.grid or () for dimension in self.space.values()]
        return [dict(zip(self.space, values, strict=True)) for values in itertools.product(*grids)]

    @property
    def num_trials(self) -> int:
        """The number of trials; a grid has at most as many as points."""
        if self.sampler != "grid":
            return self.trials
        return min(self.trials, math.prod(len(dimension.grid or ()) for dimension in self.space.values()))

    def goal(self, metric: str) -> Literal["minimize", "maximize"] | None:
        """Return which values of a metric are good; None if only the user can know."""
        if self.direction is not None:
            return self.direction
        if metric in LOWER_IS_BETTER:
            return "minimize"
        return "maximize" if metric in _HIGHER_IS_BETTER else None
