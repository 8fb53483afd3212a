"""All transforms of a dataset together: from raw record batches to the columns of shards.

There is one implementation. Spark's executors run it to write shards, and a served model carries it as data.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess.categorical import HashTransform, VocabularyTransform
from farandole.preprocess.label import ClassLabel, NumberLabel, label_from_dict, label_from_spec
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.times import TimeTransform
from farandole.shards import LABEL, Group, Schema
from farandole.spec import Categorical, Data, Feature, Numeric

Transform = NumericTransform | VocabularyTransform | HashTransform | TimeTransform

_ARROW_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}

_KINDS: dict[str, type[Any]] = {
    "numeric": NumericTransform,
    "vocabulary": VocabularyTransform,
    "hash": HashTransform,
    "time": TimeTransform,
}


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
            tuple(_transform(name, feature) for name, feature in data.features.items()),
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
        groups = []
        for name in dict.fromkeys(transform.group for transform in self.transforms):
            members = [transform for transform in self.transforms if transform.group == name]
            cardinalities = tuple(count for member in members for count in member.cardinalities)
            groups.append(
                Group(
                    name=name,
                    kind="ids" if cardinalities else "numbers",
                    features=tuple(feature for member in members for feature in member.features),
                    cardinalities=cardinalities,
                )
            )
        return Schema(groups=tuple(groups), label=self.label.schema if self.label else None)

    def features(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """The feature groups of raw rows.

        Args:
            batch: Raw rows; it needs the columns of `columns`, others are not looked at.

        Returns:
            For each group an array `[rows, size]`, float32 or int32.

        Raises:
            DataError: A column is missing, has another type, or holds a value that no rule covers.
        """
        parts: dict[str, list[np.ndarray]] = {}
        for transform in self.transforms:
            values = _column(batch, transform.column)
            parts.setdefault(transform.group, []).append(transform.apply(values))
        return {group: np.concatenate(arrays, axis=1) for group, arrays in parts.items()}

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
            kind = arrow_type(self.types[transform.column])
            value = _typical(transform, kind)
            if value is not None:
                row.setdefault(transform.column, [value])
        return {column: row.get(column, [None]) for column in self.columns}

    def to_dict(self) -> dict[str, Any]:
        """As data, for the manifest and for the logged model."""
        return {
            "types": {column: self.types[column] for column in self.columns if column in self.types},
            "transforms": [{"kind": _kind(transform), **transform.to_dict()} for transform in self.transforms],
            "label": self.label.to_dict() if self.label else None,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocessing:
        """What `to_dict` was made of."""
        transforms = []
        for entry in data["transforms"]:
            fields = {key: value for key, value in entry.items() if key != "kind"}
            transforms.append(_KINDS[entry["kind"]].from_dict(fields))
        label = label_from_dict(data["label"]) if data["label"] else None
        return cls(tuple(transforms), label, data["types"])


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a SQL type's name.

    Raises:
        DataError: There is none that a feature could be made of.
    """
    decimal = re.fullmatch(r"decimal\((\d+),(\d+)\)", name)
    if decimal:
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if name not in _ARROW_TYPES:
        raise DataError(f"a column of type {name} cannot be a feature; cast it in the query")
    return _ARROW_TYPES[name]


def _transform(name: str, feature: Feature) -> Transform:
    column = feature.column or name
    if isinstance(feature, Numeric):
        return NumericTransform(name, column, feature)
    if isinstance(feature, Categorical):
        kind = VocabularyTransform if feature.encoding == "vocabulary" else HashTransform
        return kind(name, column, feature)
    return TimeTransform(name, column, feature)


def _typical(transform: Transform, kind: pa.DataType) -> Any:
    """A value that the transform was made for, as Python sees it in a column of this type."""
    if isinstance(transform, TimeTransform):
        noon = datetime.datetime(2024, 1, 1, 12)
        return noon.date() if pa.types.is_date(kind) else noon
    if isinstance(transform, NumericTransform):
        number = transform.fill if transform.fill is not None else 0.0
        whole = pa.types.is_integer(kind)
        try:
            return pa.array([round(number) if whole else number]).cast(kind)[0].as_py()
        except pa.ArrowInvalid:  # a declared `impute` that the raw column could not hold
            return pa.array([0]).cast(kind)[0].as_py()
    if isinstance(transform, VocabularyTransform) and transform.vocabulary:
        return pa.array([transform.vocabulary[0]]).cast(kind)[0].as_py()
    return pa.array(["1"]).cast(kind)[0].as_py() if not pa.types.is_temporal(kind) else None


def _kind(transform: Transform) -> str:
    return next(kind for kind, made in _KINDS.items() if type(transform) is made)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise DataError(f"column {name}: is missing; the rows have {', '.join(batch.schema.names)}")
    return batch.column(index)
