"""The `sweep` part of a job file: which fields vary, and how their best values are looked for."""

from __future__ import annotations

import itertools
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from farandole.spec.base import Spec
from farandole.spec.checkpoint import LOWER_IS_BETTER

_PARTS = ("model", "train", "resources")
_LARGER_IS_BETTER = ("roc_auc", "average_precision", "accuracy", "r2")

Number = int | float


class Dimension(Spec):
    """The values of one field: an interval (`low`, `high`), or `choices`."""

    low: Number | None = None
    """The smallest value. Whole numbers for `low` and `high` make a whole number."""
    high: Number | None = None
    """The largest value."""
    step: Number | None = None
    """The distance between two values, from `low` on."""
    log: bool = False
    """Draw orders of magnitude evenly: for learning rates and sizes."""
    choices: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """The values themselves: words, numbers, lists, mappings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choices is not None:
            if any(value is not None for value in (self.low, self.high, self.step)) or self.log:
                raise ValueError("`choices` are all values; remove low, high, step and log")
            labels = [json.dumps(choice) for choice in self.choices]
            if len(set(labels)) < len(labels):
                raise ValueError(f"choices: {', '.join(labels)}: a value is there twice; remove one")
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
            raise ValueError("step has no effect on orders of magnitude; remove it, or `log`")
        if self.is_whole and isinstance(self.step, float):
            raise ValueError(f"step: {self.step}: between whole numbers it must be a whole number")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values by which it is judged whether all are allowed."""
        return self.choices or (self.low, self.high)

    @property
    def grid(self) -> tuple[Any, ...] | None:
        """All values in order; None where there are too many to count."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.is_whole and not self.log else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.low + index * step for index in range(count))

    def __str__(self) -> str:
        if self.choices is not None:
            return " | ".join(json.dumps(choice) for choice in self.choices)
        step = f" by {self.step}" if self.step else ""
        return f"{self.low} to {self.high}{step}{' (log)' if self.log else ''}"


class Sweep(Spec):
    """Trains the job many times with other values, and finds the best."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Field of the job file (`train.optimizer.learning_rate`) to its values. Fields of `model`, `train` and `resources`
    may vary; the dataset is prepared once."""
    trials: Annotated[int, Field(ge=1)] = 20
    """How many trainings."""
    sampler: Literal["random", "tpe", "grid"] = "tpe"
    """How values are drawn: at random; near those that did well (TPE, Bergstra et al. 2011); or all, in order."""
    pruner: Literal["none", "median"] = "median"
    """`median` ends a trial whose best validation so far is worse than the median of the others at that epoch."""
    startup_trials: Annotated[int, Field(ge=1)] = 5
    """So many trials are drawn at random, and end before one is pruned."""
    metric: str | None = None
    """The validation metric. Default: the job's first one."""
    direction: Literal["minimize", "maximize"] | None = None
    """Which values of the metric are good. Default: as the metric asks for."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """No trial starts after so many seconds."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides which values are drawn."""
    parallel: Annotated[int, Field(ge=1)] = 1
    """Trials at once. Each takes `resources` of its own."""

    @field_validator("space")
    @classmethod
    def _parts(cls, value: dict[str, Dimension]) -> dict[str, Dimension]:
        for field in value:
            part = field.partition(".")[0]
            if part not in _PARTS or not all(field.split(".")) or part == field:
                raise ValueError(
                    f"{field}: only fields of {', '.join(_PARTS)} can vary (train.optimizer.learning_rate), because the"
                    " dataset is prepared once"
                )
        return value

    @model_validator(mode="after")
    def _countable(self) -> Self:
        if self.sampler == "grid":
            for field, dimension in self.space.items():
                if dimension.grid is None:
                    raise ValueError(f"space.{field}: has no end of values for a grid; give it `step` or `choices`")
        return self

    @property
    def points(self) -> list[dict[str, Any]]:
        """All combinations of values, the last field changing first; only where all fields can be counted."""
        grids = [dimension.grid or () for dimension in self.space.values()]
        return [dict(zip(self.space, values, strict=True)) for values in itertools.product(*grids)]

    @property
    def num_trials(self) -> int:
        """How many trials there will be: a grid has no more than its points."""
        if self.sampler != "grid":
            return self.trials
        return min(self.trials, math.prod(len(dimension.grid or ()) for dimension in self.space.values()))

    def goal(self, metric: str) -> Literal["minimize", "maximize"] | None:
        """Which values of a metric are good; None where only the user can know."""
        if self.direction is not None:
            return self.direction
        if metric in LOWER_IS_BETTER:
            return "minimize"
        return "maximize" if metric in _LARGER_IS_BETTER else None
