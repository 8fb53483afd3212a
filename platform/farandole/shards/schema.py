"""Columns of a dataset: feature groups as fixed-size lists, and the label.

A group of F numbers is one non-null `FixedSizeList<float32>[F]` column, so that a batch is one gather over one
2-D array; a group of K categories is a `FixedSizeList<int32>[K]`, an image a `FixedSizeList<uint8>` whose shape is in
the field's metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, model_validator

from farandole.errors import DatasetError, closest_match

LABEL = "label"
"""The name of the label's column."""

_LARGEST_LOG = 709.0
"""The logarithm, rounded down, of the largest float64."""

GroupKind = Literal["numbers", "ids", "tokens", "mask", "image", "tensor"]
"""The content of a group: float32 numbers; int32 ids, each feature with its own set; int32 ids of one vocabulary, in
order; 1 for values of another group and 0 for its padding; uint8 pixels; any values of a fixed shape."""

_VALUE_TYPES: dict[GroupKind, str] = {
    "numbers": "float32",
    "ids": "int32",
    "tokens": "int32",
    "mask": "uint8",
    "image": "uint8",
}


class Group(BaseModel):
    """One tensor that the model receives.

    Args:
        name: The column, and the model's keyword argument.
        kind: Its content.
        features: The names of its features, in order; of numbers and ids, one for each value of a row.
        cardinalities: Of ids and tokens: the number of ids of each feature; ids begin at 0.
        shape: The shape of a row's values. Default: `(features,)`.
        value_type: The NumPy name of a value's type. Default: follows from the kind; required for tensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: GroupKind
    features: tuple[str, ...]
    cardinalities: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    value_type: str = ""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: dict[str, Any]) -> dict[str, Any]:
        shape = values.get("shape") or (len(values["features"]),)
        return {"value_type": _VALUE_TYPES.get(values["kind"], ""), **values, "shape": shape}

    @property
    def size(self) -> int:
        """The number of values of a row in this group."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of one value."""
        return np.dtype(self.value_type)


class LabelScale(BaseModel):
    """The function from a number to predict to its value in shards: `(y - mean) / deviation`, or of `log(1 + y)`.

    Args:
        mean: The mean of the training rows, after the logarithm.
        deviation: Their standard deviation.
        log: Whether the logarithm of 1 + y is scaled instead of y.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float = 0.0
    deviation: float = 1.0
    log: bool = False

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """Return the scaled numbers, float64. With a logarithm, those below -1 become NaN and -1 becomes infinite."""
        if self.log:
            with np.errstate(invalid="ignore", divide="ignore"):
                numbers = np.log1p(numbers)
        scaled: np.ndarray = (numbers - self.mean) / self.deviation
        return scaled

    def invert(self, scaled: np.ndarray) -> np.ndarray:
        """Return the numbers, float64. A logarithm has no negative result, and none that float64 cannot hold."""
        numbers = scaled.astype(np.float64) * self.deviation + self.mean
        if self.log:
            numbers = np.expm1(np.clip(numbers, 0.0, _LARGEST_LOG))
        return numbers


class LabelColumn(BaseModel):
    """The predicted column: a class (int32, its index in `classes`) or a number (float32).

    Args:
        kind: The kind of prediction.
        column: The raw column from which it is derived.
        classes: The classes as text; for binary labels the last one is the positive one. Empty for regression.
        scale: How a number was scaled; None: not at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["binary", "multiclass", "regression"]
    column: str
    classes: tuple[str, ...] = ()
    scale: LabelScale | None = None

    @property
    def dtype(self) -> np.dtype:
        """The type of one label."""
        return np.dtype(np.float32 if self.kind == "regression" else np.int32)

    @property
    def num_outputs(self) -> int:
        """The number of outputs of a model for a row: one logit or value, or one logit per class."""
        return len(self.classes) if self.kind == "multiclass" else 1

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Return labels of shards, or outputs of a network for them, in the units of the raw column, as float64.

        A network for a regression learns scaled numbers; everything that a person reads goes through this function.
        """
        assert self.kind == "regression", f"{self.kind} labels have no unit"
        return self.scale.invert(values) if self.scale is not None else values.astype(np.float64)


class Schema(BaseModel):
    """All columns of a dataset. A model builder receives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[Group, ...]
    label: LabelColumn | None = None

    @property
    def target(self) -> LabelColumn:
        """The label, for those who need one.

        Raises:
            DatasetError: The dataset has no label.
        """
        if self.label is None:
            raise DatasetError(
                "data.label: the dataset was prepared without a label, and training needs one; declare it and prepare"
                " again, or use the loader in your own script"
            )
        return self.label

    def group(self, name: str) -> Group:
        """Return the group of this name.

        Raises:
            DatasetError: There is no such group.
        """
        groups = {group.name: group for group in self.groups}
        if name not in groups:
            close = closest_match(name, list(groups))
            hint = f"did you mean {close}?" if close else f"it has {', '.join(groups)}"
            raise DatasetError(f"the dataset has no group {name}; {hint}")
        return groups[name]

    @property
    def row_bytes(self) -> int:
        """The size of one row in a shard, in bytes."""
        label_bytes = self.label.dtype.itemsize if self.label else 0
        return sum(group.size * group.dtype.itemsize for group in self.groups) + label_bytes

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of a shard."""
        fields = [
            pa.field(
                group.name,
                pa.list_(pa.field("item", _arrow_type(group.dtype), False), group.size),
                nullable=False,
                metadata={"shape": json.dumps(group.shape)},
            )
            for group in self.groups
        ]
        if self.label is not None:
            fields.append(pa.field(LABEL, _arrow_type(self.label.dtype), False))
        return pa.schema(fields)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the schema: datasets with the same fingerprint fit the same models."""
        described = self.model_dump(mode="json")
        if described["label"] is not None and described["label"]["scale"] is None:
            del described["label"]["scale"]  # datasets from before labels were scaled keep their fingerprint
        text = json.dumps(described, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def record_batch(self, columns: dict[str, np.ndarray]) -> pa.RecordBatch:
        """Build an Arrow batch of arrays.

        Args:
            columns: For each group an array `[rows, *shape]`, for the label `[rows]`, in the dtypes of this schema.
        """
        schema = self.arrow
        arrays: list[pa.Array] = []
        for group in self.groups:
            values = columns[group.name]
            assert values.dtype == group.dtype, f"{group.name}: {values.dtype}"
            assert values.shape[1:] == group.shape, f"{group.name}: {values.shape}"
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=schema.field(group.name).type))
        if self.label is not None:
            label = columns[LABEL]
            assert label.dtype == self.label.dtype, f"label: {label.dtype}"
            arrays.append(pa.array(label))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def arrays(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return read-only views of a batch's memory: `[rows, *shape]` for each group, `[rows]` for the label."""
        views = {}
        for group in self.groups:
            column = batch.column(group.name)
            # `.values` ignores that a column may be a slice, and `.flatten()` drops null rows: so nulls are refused,
            # and the slice is taken here.
            assert not column.null_count, f"{group.name}: rows are missing"
            values = _view(column.values, group.dtype)[column.offset * group.size :]
            views[group.name] = values[: batch.num_rows * group.size].reshape(batch.num_rows, *group.shape)
        if self.label is not None:
            label = batch.column(LABEL)
            assert not label.null_count, "label: rows are missing"
            views[LABEL] = _view(label, self.label.dtype)
        return views


def _view(array: pa.Array, dtype: np.dtype) -> np.ndarray:
    """Return the values of a primitive array without nulls, read-only.

    Arrow's `to_numpy` returns the same, but imports pandas, which takes a second and 60 MB.
    """
    values = array.buffers()[1]
    if not len(array) or values is None:
        return np.empty(0, dtype)
    view = np.frombuffer(values, dtype, len(array), array.offset * dtype.itemsize)
    view.flags.writeable = False
    return view


def _arrow_type(dtype: np.dtype) -> pa.DataType:
    return pa.from_numpy_dtype(dtype)
