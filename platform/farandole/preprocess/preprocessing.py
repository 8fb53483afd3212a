"""All transforms of a dataset together: from raw record batches to the columns of shards.

There is one implementation. Spark's executors run it to write shards, and a served model carries it as data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess.bucket import BucketTransform
from farandole.preprocess.categorical import HashTransform, VocabularyTransform
from farandole.preprocess.image import ImageTransform
from farandole.preprocess.label import ClassLabel, NumberLabel, label_from_dict, label_from_spec
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.raw_rows import RawForm, convert_column
from farandole.preprocess.tensor import TensorTransform
from farandole.preprocess.text import Packer, TextTransform
from farandole.preprocess.times import TimeNumbersTransform, TimeTransform
from farandole.preprocess.transform import Transform
from farandole.preprocess.values import arrow_type
from farandole.shards import LABEL, Group, Schema
from farandole.spec import Data, Feature, Policy
from farandole.spec.feature_groups import raw_column

_TRANSFORMS: dict[str, type[Transform]] = {
    "numeric": NumericTransform,
    "vocabulary": VocabularyTransform,
    "hash": HashTransform,
    "bucket": BucketTransform,
    "time": TimeTransform,
    "time numbers": TimeNumbersTransform,
    "text": TextTransform,
    "tensor": TensorTransform,
    "image": ImageTransform,
}
"""The class of each kind of transform; the kinds are part of manifests."""


@dataclass(frozen=True)
class Preprocessing:
    """The transforms of all features, in declared order, and the label's.

    Args:
        transforms: One for each declared feature.
        label: The label's transform; None if there is no label.
        types: Raw column to its SQL type, which rows that do not come from Spark are cast to first.
        policies: Raw column to the privacy policy that was applied to it before anything was fitted, and that rows
            which do not come from Spark pass as well. Not part of `to_dict`.
    """

    transforms: tuple[Transform, ...]
    label: ClassLabel | NumberLabel | None
    types: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)

    @classmethod
    def from_spec(cls, data: Data) -> Preprocessing:
        """Return the declared preprocessing, not fitted."""
        return cls(
            tuple(_transform_from_spec(name, feature) for name, feature in data.features.items()),
            label_from_spec(data.label) if data.label else None,
        )

    def with_types(self, types: Mapping[str, str]) -> Preprocessing:
        """Return the preprocessing for raw columns of these types.

        Args:
            types: Raw column to its SQL type.

        Raises:
            DataError: A column has a type that cannot become a feature.
        """
        for transform in self.transforms:
            try:
                arrow_type(types[transform.column])
            except DataError as error:
                raise DataError(f"features.{transform.name}: column {transform.column}: {error}") from None
        return replace(self, types=dict(types))

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that the features need, each once, in order, without the label's."""
        return tuple(dict.fromkeys(transform.column for transform in self.transforms))

    @property
    def fitted(self) -> bool:
        """True once nothing is left to learn."""
        return (self.label is None or self.label.fitted) and all(transform.fitted for transform in self.transforms)

    @property
    def schema(self) -> Schema:
        """The columns of the dataset."""
        groups: dict[str, Group] = {}
        for transform in self.transforms:
            for part in transform.groups:
                groups[part.name] = _join_groups(groups[part.name], part) if part.name in groups else part
        return Schema(groups=tuple(groups.values()), label=self.label.schema if self.label else None)

    @property
    def packs(self) -> bool:
        """True if rows are windows over concatenated texts, and so depend on the order of the texts."""
        return any(isinstance(transform, TextTransform) and transform.packs for transform in self.transforms)

    def num_rows(self, raw_rows: int) -> int:
        """Return how many rows the raw rows become: equally many, or an estimate of the windows of packed texts."""
        if not self.packs or not raw_rows:
            return raw_rows
        (transform,) = self.transforms
        assert isinstance(transform, TextTransform)
        return math.ceil(raw_rows * (transform.tokens_per_row + 1) / transform.spec.length)

    def features(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Convert raw rows to feature groups.

        Args:
            batch: Raw rows with at least the columns of `columns`; others are ignored.

        Returns:
            For each group an array `[rows, *shape]`, in the group's type.

        Raises:
            DataError: A column is missing, has another type, or contains an invalid value.
        """
        parts: dict[str, list[np.ndarray]] = {}
        for transform in self.transforms:
            for group, array in transform.arrays(_column(batch, transform.column)).items():
                parts.setdefault(group, []).append(array)
        return {
            group: np.concatenate(arrays, axis=1) if len(arrays) > 1 else arrays[0] for group, arrays in parts.items()
        }

    def rows(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Convert raw rows to feature groups and, if there is a label, add it as `[rows]`."""
        rows = self.features(batch)
        if self.label is not None:
            rows[LABEL] = self.label.apply(_column(batch, self.label.column))
        return rows

    def raw_batch(self, columns: Mapping[str, Any], forms: Mapping[str, RawForm] | None = None) -> pa.RecordBatch:
        """Convert raw rows that do not come from Spark to the types that the transforms were fitted on.

        Args:
            columns: Column to values (lists, arrays or pandas series); None and NaN are missing.
            forms: Column to how the sources write it.

        Raises:
            DataError: A column is missing, or a value does not fit its column's type or was not pseudonymised.
        """
        arrays = {}
        num_rows = next((len(columns[name]) for name in self.columns if hasattr(columns.get(name), "__len__")), 0)
        for name in self.columns:
            form = (forms or {}).get(name)
            if name not in columns and not (form and form.may_be_absent):
                raise DataError(f"column {name}: is missing; the model needs {', '.join(self.columns)}")
            values = columns[name] if name in columns else [None] * num_rows
            arrays[name] = self._protect(
                name, convert_column(name, values, self.types[name], form, self._known_texts(name))
            )
        lengths = {name: len(values) for name, values in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"the columns have different numbers of rows ({lengths}); send equally many of each")
        return pa.record_batch(arrays)

    def _protect(self, column: str, values: pa.Array) -> pa.Array:
        if column not in self.policies:
            return values
        from farandole.privacy import as_in_training

        return as_in_training(column, self.policies[column], values)

    def _known_texts(self, column: str) -> frozenset[str]:
        """Return the categories of a column that were learned."""
        return self._all_known_texts.get(column, frozenset())

    @cached_property
    def _all_known_texts(self) -> dict[str, frozenset[str]]:
        known: dict[str, frozenset[str]] = {}
        for transform in self.transforms:
            if isinstance(transform, VocabularyTransform):
                texts = frozenset(transform.vocabulary or ())
                known[transform.column] = known.get(transform.column, frozenset()) | texts
        return known

    def example(self) -> dict[str, list[Any]]:
        """Return a synthetic row to try a served model with: typical values of the learned distributions."""
        row: dict[str, list[Any]] = {}
        for transform in self.transforms:
            value = transform.typical(arrow_type(self.types[transform.column]))
            if value is not None and self._is_protected(transform.column, value):
                row.setdefault(transform.column, [value])
        return {column: row.get(column, [None]) for column in self.columns}

    def _is_protected(self, column: str, value: Any) -> bool:
        """Return False for a value that no policy can have returned: nobody knows a pseudonym of a hashed column."""
        try:
            self._protect(column, convert_column(column, [value], self.types[column]))
        except DataError:
            return False
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return the preprocessing as plain data, for the manifest and for the logged model."""
        return {
            "types": {column: self.types[column] for column in self.columns if column in self.types},
            "transforms": [_transform_to_dict(transform) for transform in self.transforms],
            "label": self.label.to_dict() if self.label else None,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocessing:
        """Restore a fitted preprocessing from the result of `to_dict`."""
        transforms = tuple(_transform_from_dict(entry) for entry in data["transforms"])
        label = label_from_dict(data["label"]) if data["label"] else None
        return cls(transforms, label, data["types"])


class RowStream:
    """Stream of raw batches to the rows of one shard, in order. Packed texts span batches, so it must be ended.

    Args:
        preprocessing: A fitted preprocessing.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self.raw_rows = 0
        """The number of raw rows so far."""
        transform = preprocessing.transforms[0]
        self._packer = Packer(transform) if isinstance(transform, TextTransform) and transform.packs else None

    def add(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return the rows that are complete now, in the form of `Preprocessing.rows`.

        Raises:
            DataError: A value is invalid.
        """
        self.raw_rows += batch.num_rows
        if self._packer is None:
            return self._preprocessing.rows(batch)
        (transform,) = self._preprocessing.transforms
        return {transform.groups[0].name: self._packer.add(batch.column(transform.column))}

    def end(self) -> dict[str, np.ndarray]:
        """Return the last, incomplete row of packed texts; otherwise nothing."""
        if self._packer is None:
            return {}
        (transform,) = self._preprocessing.transforms
        return {transform.groups[0].name: self._packer.end()}


def _transform_from_spec(name: str, feature: Feature) -> Transform:
    return _TRANSFORMS[_kind_of(feature)](name, raw_column(name, feature), feature)


def _kind_of(feature: Feature) -> str:
    if feature.kind == "categorical":
        return "hash" if feature.encoding == "hash" else "vocabulary"
    if feature.kind == "time" and feature.encoding == "number":
        return "time numbers"
    return feature.kind


def _transform_to_dict(transform: Transform) -> dict[str, Any]:
    kind = next(kind for kind, transform_class in _TRANSFORMS.items() if type(transform) is transform_class)
    return {"kind": kind, **transform.to_dict()}


def _transform_from_dict(data: Mapping[str, Any]) -> Transform:
    return _TRANSFORMS[data["kind"]].from_dict(data)


def _join_groups(first: Group, second: Group) -> Group:
    """Return a group with the columns of both."""
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
