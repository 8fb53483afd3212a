"""What every kind of feature can do. A new kind is a class here and a line in `kinds.py`."""

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
"""The measure of a column that is the column's own values; others (the lengths of texts, say) have names."""

Measurements = Mapping[str, Summary | Counter[str]]
"""What one pass over the training split saw: measure to its summary or its counts. Without rows it is empty."""


@dataclass(frozen=True)
class Transform(ABC):
    """One declared feature: raw values in, arrays for one or several groups out.

    It is fitted in passes. Each pass hands all training rows to `observe`, in any order and pieces, and what was seen
    to `learn`, until it is `fitted`. It is data: `to_dict` and `from_dict` carry it to shards' manifests and served
    models, and it never changes (`learn` gives another one).

    Args:
        name: The feature's name.
        column: The raw column that it is made of.
        spec: As declared.
    """

    name: str
    column: str
    spec: Any

    SPEC: ClassVar[type[Spec]]
    """The class of `spec`."""
    LEARNED: ClassVar[tuple[str, ...]] = ()
    """The fields that `learn` fills in: numbers, texts, tuples of those, or None."""

    @property
    def place(self) -> str:
        """How an error names the feature."""
        return f"features.{self.name}: column {self.column}"

    @property
    @abstractmethod
    def groups(self) -> tuple[Group, ...]:
        """The groups that it makes, or its part of a group that it shares with other features."""

    @property
    def fitted(self) -> bool:
        """Whether nothing is left to learn."""
        return True

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """What this pass must see of raw values.

        Returns:
            Measure to float64 `[rows]` (NaN is missing), which is summarised, or to an Arrow array of text of any
            length, whose values are counted.

        Raises:
            DataError: The column has another type, or holds a value that no rule covers.
        """
        raise AssertionError(f"{self.name} has nothing to learn")

    def learn(self, seen: Measurements) -> Self:
        """The transform with what one pass told.

        Raises:
            DataError: The training split cannot be learned from.
        """
        raise AssertionError(f"{self.name} has nothing to learn")

    @abstractmethod
    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """Group to `[rows, *shape]`, in the group's type.

        Raises:
            DataError: The column has another type, or holds a value that no rule covers.
        """

    @abstractmethod
    def typical(self, kind: pa.DataType) -> Any:
        """A raw value, nobody's own, that the transform was made for, as Python sees it in a column of this type."""

    def to_dict(self) -> dict[str, Any]:
        """As data, for the manifest."""
        learned = {key: getattr(self, key) for key in self.LEARNED}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in learned.items()}
        return {"name": self.name, "column": self.column, "spec": self.spec.model_dump(mode="json"), **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` of a fitted transform was made of."""
        learned = {key: data[key] for key in cls.LEARNED}
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in learned.items()}
        return cls(data["name"], data["column"], cls.SPEC.model_validate(data["spec"]), **plain)


@dataclass(frozen=True)
class ColumnsTransform(Transform):
    """A transform that gives columns of a group that features share: all of numbers, or all of ids."""

    @property
    def group(self) -> str:
        """The group that it belongs to."""
        (group,) = self.spec.groups(self.name)
        return str(group)

    @property
    @abstractmethod
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many ids each column has; nothing for numbers."""
        return ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its part of the group."""
        kind = "ids" if self.cardinalities else "numbers"
        return (Group(name=self.group, kind=kind, features=self.features, cardinalities=self.cardinalities),)

    @abstractmethod
    def apply(self, values: pa.Array) -> np.ndarray:
        """float32 or int32 `[rows, features]`."""

    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """The columns, under the name of their group."""
        return {self.group: self.apply(values)}


def onehot(ids: np.ndarray, first: int, missing: int, num_values: int) -> np.ndarray:
    """Ids as columns of 0 and 1.

    Args:
        ids: int32 `[rows]`.
        first: The id of the first value.
        missing: The id of a missing value.
        num_values: How many values there are.

    Returns:
        float32 `[rows, num_values + 1]`; the last column is that of missing values. Other ids are 0 everywhere.
    """
    places = np.where(ids == missing, num_values, ids - first)
    columns = np.zeros((len(ids), num_values + 1), dtype=np.float32)
    known = np.flatnonzero(places >= 0)
    columns[known, places[known]] = 1
    return columns
