"""All transforms of a dataset together: from raw record batches to the columns of shards.

There is one implementation. Spark's executors run it to write shards, and a served model carries it as data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess.kinds import transform_from_dict, transform_from_spec, transform_to_dict
from farandole.preprocess.label import ClassLabel, NumberLabel, label_from_dict, label_from_spec
from farandole.preprocess.raw_types import arrow_type
from farandole.preprocess.text import TextTransform
from farandole.preprocess.transform import Transform
from farandole.shards import LABEL, Group, Schema
from farandole.spec import Data


@dataclass(frozen=True)
class Preprocessing:
    """The transforms of all features, in declared order, and the label's.

    Args:
        transforms: One for each declared feature.
        label: The label's; None: there is no label.
        types: Raw column to its SQL type: what rows from elsewhere than Spark are cast to first.
    """

    transforms: tuple[Transform, ...]
    label: ClassLabel | NumberLabel | None
    types: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_spec(cls, data: Data) -> Preprocessing:
        """As the job file declares it, not fitted."""
        return cls(
            tuple(transform_from_spec(name, feature) for name, feature in data.features.items()),
            label_from_spec(data.label) if data.label else None,
        )

    def with_types(self, types: Mapping[str, str]) -> Preprocessing:
        """The same, for raw columns of these types.

        Args:
            types: Raw column to its SQL type.

        Raises:
            DataError: No feature can be made of a column's type.
        """
        for transform in self.transforms:
            try:
                arrow_type(types[transform.column])
            except DataError as error:
                raise DataError(f"features.{transform.name}: column {transform.column}: {error}") from None
        return replace(self, types=dict(types))

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that the features need, each once, in order; the label's is not among them."""
        return tuple(dict.fromkeys(transform.column for transform in self.transforms))

    @property
    def fitted(self) -> bool:
        """Whether nothing is left to learn."""
        return (self.label is None or self.label.fitted) and all(transform.fitted for transform in self.transforms)

    @property
    def schema(self) -> Schema:
        """The columns of the dataset."""
        groups: dict[str, Group] = {}
        for transform in self.transforms:
            for part in transform.groups:
                groups[part.name] = _joined(groups[part.name], part) if part.name in groups else part
        return Schema(groups=tuple(groups.values()), label=self.label.schema if self.label else None)

    @property
    def packs(self) -> bool:
        """Whether rows are windows of texts that follow each other, which depend on the order of the texts."""
        return any(isinstance(made, TextTransform) and made.packs for made in self.transforms)

    def num_rows(self, raw_rows: int) -> int:
        """How many rows so many raw ones become: as many, or about as many windows as packed texts fill."""
        if not self.packs or not raw_rows:
            return raw_rows
        (transform,) = self.transforms
        assert isinstance(transform, TextTransform)
        return math.ceil(raw_rows * (transform.tokens_per_row + 1) / transform.spec.length)

    def features(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """The feature groups of raw rows.

        Args:
            batch: Raw rows; it needs the columns of `columns`, others are not looked at.

        Returns:
            For each group an array `[rows, *shape]`, in the group's type.

        Raises:
            DataError: A column is missing, has another type, or holds a value that no rule covers.
        """
        parts: dict[str, list[np.ndarray]] = {}
        for transform in self.transforms:
            for group, array in transform.arrays(_column(batch, transform.column)).items():
                parts.setdefault(group, []).append(array)
        return {
            group: np.concatenate(arrays, axis=1) if len(arrays) > 1 else arrays[0] for group, arrays in parts.items()
        }

    def rows(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Like `features`, with the label, if there is one, as `[rows]`."""
        rows = self.features(batch)
        if self.label is not None:
            rows[LABEL] = self.label.apply(_column(batch, self.label.column))
        return rows

    def raw_batch(self, columns: Mapping[str, Any]) -> pa.RecordBatch:
        """Raw rows from elsewhere, in the types that the transforms were fitted on.

        Args:
            columns: Column to values (lists, arrays or pandas series); None and NaN are missing.

        Raises:
            DataError: A column is missing, or a value does not fit its column's type.
        """
        arrays = {}
        for name in self.columns:
            if name not in columns:
                raise DataError(f"column {name}: is missing; the model needs {', '.join(self.columns)}")
            try:
                # pandas holds text in chunks
                chunks = pa.chunked_array(pa.array(columns[name], from_pandas=True))
                arrays[name] = chunks.cast(arrow_type(self.types[name])).combine_chunks()
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise DataError(f"column {name}: is not {self.types[name]} ({error}); send such values") from error
        lengths = {name: len(values) for name, values in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"the columns have different numbers of rows ({lengths}); send as many of each")
        return pa.record_batch(arrays)

    def example(self) -> dict[str, list[Any]]:
        """A row that a served model can be tried with: typical values made from what was learned, nobody's row."""
        row: dict[str, list[Any]] = {}
        for transform in self.transforms:
            value = transform.typical(arrow_type(self.types[transform.column]))
            if value is not None:
                row.setdefault(transform.column, [value])
        return {column: row.get(column, [None]) for column in self.columns}

    def to_dict(self) -> dict[str, Any]:
        """As data, for the manifest and for the logged model."""
        return {
            "types": {column: self.types[column] for column in self.columns if column in self.types},
            "transforms": [transform_to_dict(transform) for transform in self.transforms],
            "label": self.label.to_dict() if self.label else None,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocessing:
        """What `to_dict` was made of."""
        transforms = tuple(transform_from_dict(entry) for entry in data["transforms"])
        label = label_from_dict(data["label"]) if data["label"] else None
        return cls(transforms, label, data["types"])


def _joined(first: Group, second: Group) -> Group:
    """A group with the columns of both."""
    return Group(
        name=first.name,
        kind=first.kind,
        features=first.features + second.features,
        cardinalities=first.cardinalities + second.cardinalities,
    )


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise DataError(f"column {name}: is missing; the rows have {', '.join(batch.schema.names)}")
    return batch.column(index)
