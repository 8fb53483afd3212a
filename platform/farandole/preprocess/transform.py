"""Base classes of transforms. A new kind of feature is a subclass and a line in `preprocessing.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from farandole.preprocess.summary import Summary
from farandole.shards import Group
from farandole.spec import Spec

VALUES = ""
"""The measure of a column's own values; other measures (such as the lengths of texts) have names."""

ROUNDED = "rounded"
"""The measure that is 1 for integers that float64 rounds; it exists only if there are some."""

Measurements = Mapping[str, Summary | Counter[str]]
"""Results of one pass over the training split: measure to its summary or its counts. Without rows it is empty."""


@dataclass(frozen=True)
class Transform(ABC):
    """One declared feature: converts raw values to arrays of one or several groups.

    It is fitted in passes. Each pass hands all training rows to `observe`, in any order and in any pieces, and the
    aggregated measurements to `learn`, until the transform is `fitted`. Transforms are immutable data: `to_dict` and
    `from_dict` carry them to manifests and served models, and `learn` returns a new one.

    Args:
        name: The feature's name.
        column: The raw column that it is made from.
        spec: The declaration in the job file.
    """

    name: str
    column: str
    spec: Any

    SPEC: ClassVar[type[Spec]]
    """The class of `spec`."""
    LEARNED: ClassVar[tuple[str, ...]] = ()
    """The fields that `learn` sets: numbers, texts, tuples of those, or None."""

    @property
    def origin(self) -> str:
        """The feature's field path and column, as a prefix of errors."""
        return f"features.{self.name}: column {self.column}"

    @property
    @abstractmethod
    def groups(self) -> tuple[Group, ...]:
        """The groups that it makes, or its part of a group that it shares with other features."""

    @property
    def fitted(self) -> bool:
        """True once nothing is left to learn."""
        return True

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return what this pass must aggregate of raw values.

        Returns:
            Measure to float64 `[rows]` (NaN is missing), which is summarised, or to an Arrow array of text of any
            length, whose values are counted.

        Raises:
            DataError: The column has another type, or contains an invalid value.
        """
        raise AssertionError(f"{self.name} has nothing to learn")

    def learn(self, measurements: Measurements) -> Self:
        """Return the transform with the results of one pass.

        Raises:
            DataError: The training split cannot be learned from.
        """
        raise AssertionError(f"{self.name} has nothing to learn")

    @abstractmethod
    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """Return group to `[rows, *shape]`, in the group's type.

        Raises:
            DataError: The column has another type, or contains an invalid value.
        """

    @abstractmethod
    def typical(self, raw_type: pa.DataType) -> Any:
        """Return a synthetic raw value that the transform accepts, as Python reads it from a column of this type."""

    def to_dict(self) -> dict[str, Any]:
        """Return the transform as plain data, for the manifest."""
        learned = {key: getattr(self, key) for key in self.LEARNED}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in learned.items()}
        return {"name": self.name, "column": self.column, "spec": self.spec.model_dump(mode="json"), **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Restore a fitted transform from the result of `to_dict`."""
        learned = {key: data[key] for key in cls.LEARNED}
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in learned.items()}
        return cls(data["name"], data["column"], cls.SPEC.model_validate(data["spec"]), **plain)


@dataclass(frozen=True)
class ColumnsTransform(Transform):
    """A transform that adds columns to a group that several features share: numbers only, or ids only."""

    @property
    def group(self) -> str:
        """The name of the group."""
        (group,) = self.spec.groups(self.name)
        return str(group)

    @property
    @abstractmethod
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of ids of each column; empty for numbers."""
        return ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its part of the group."""
        kind = "ids" if self.cardinalities else "numbers"
        return (Group(name=self.group, kind=kind, features=self.features, cardinalities=self.cardinalities),)

    @abstractmethod
    def apply(self, values: pa.Array) -> np.ndarray:
        """Return the columns, float32 or int32 `[rows, features]`."""

    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """Return the columns by the name of their group."""
        return {self.group: self.apply(values)}


def onehot(ids: np.ndarray, first: int, missing: int, num_values: int) -> np.ndarray:
    """Encode ids as columns of 0 and 1.

    Args:
        ids: int32 `[rows]`.
        first: The id of the first value.
        missing: The id of a missing value.
        num_values: The number of values.

    Returns:
        float32 `[rows, num_values + 1]`; the last column marks missing values. Rows with other ids are all 0.
    """
    positions = np.where(ids == missing, num_values, ids - first)
    columns = np.zeros((len(ids), num_values + 1), dtype=np.float32)
    known = np.flatnonzero(positions >= 0)
    columns[known, positions[known]] = 1
    return columns
