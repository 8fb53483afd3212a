"""The columns of a dataset: feature groups as fixed-size lists, and the label.

A group of F numbers is one non-null `FixedSizeList<float32>[F]` column, so that a batch is one gather over one
2-D array; a group of K categories is a `FixedSizeList<int32>[K]`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

LABEL = "label"
"""The name of the label's column."""


class Group(BaseModel):
    """One tensor that the model receives.

    Args:
        name: The column, and the model's keyword argument.
        kind: `numbers` (float32) or `ids` (int32).
        features: The names of its columns, in order.
        cardinalities: For ids: how many ids each feature has, from 0 up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["numbers", "ids"]
    features: tuple[str, ...]
    cardinalities: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many values a row has in this group."""
        return len(self.features)

    @property
    def dtype(self) -> np.dtype:
        """The type of one value."""
        return np.dtype(np.float32 if self.kind == "numbers" else np.int32)


class LabelColumn(BaseModel):
    """What is predicted: a class (int32, its index in `classes`) or a number (float32).

    Args:
        column: The raw column that it was made of.
        classes: The classes as text; for binary labels the last one is the positive one. Empty for regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["binary", "multiclass", "regression"]
    column: str
    classes: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype:
        """The type of one label."""
        return np.dtype(np.float32 if self.kind == "regression" else np.int32)

    @property
    def num_outputs(self) -> int:
        """How many numbers a model returns for a row: one logit or value, or one logit per class."""
        return len(self.classes) if self.kind == "multiclass" else 1


class Schema(BaseModel):
    """All columns of a dataset. A model builder receives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[Group, ...]
    label: LabelColumn

    @property
    def row_bytes(self) -> int:
        """The size of one row in a shard, in bytes."""
        return sum(group.size * group.dtype.itemsize for group in self.groups) + self.label.dtype.itemsize

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of a shard."""
        fields = [
            pa.field(group.name, pa.list_(pa.field("item", _arrow_type(group.dtype), False), group.size), False)
            for group in self.groups
        ]
        return pa.schema([*fields, pa.field(LABEL, _arrow_type(self.label.dtype), False)])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the schema: datasets with the same one fit the same models."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def record_batch(self, columns: dict[str, np.ndarray]) -> pa.RecordBatch:
        """An Arrow batch out of arrays.

        Args:
            columns: For each group an array `[rows, size]`, for the label `[rows]`, in the dtypes of this schema.
        """
        arrays: list[pa.Array] = []
        for group in self.groups:
            values = columns[group.name]
            assert values.dtype == group.dtype, f"{group.name}: {values.dtype}"
            assert values.shape[1:] == (group.size,), f"{group.name}: {values.shape}"
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=self.arrow.field(group.name).type))
        label = columns[LABEL]
        assert label.dtype == self.label.dtype, f"label: {label.dtype}"
        arrays.append(pa.array(label))
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow)

    def arrays(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Read-only views of a batch's memory: `[rows, size]` for each group, `[rows]` for the label."""
        views = {}
        for group in self.groups:
            column = batch.column(group.name)
            # `.values` would ignore a slice's offset and `.flatten()` drops null rows: nulls are not allowed,
            # and the length is checked.
            values = column.flatten().to_numpy(zero_copy_only=True)
            assert len(values) == batch.num_rows * group.size, f"{group.name}: rows are missing"
            views[group.name] = values.reshape(batch.num_rows, group.size)
        views[LABEL] = batch.column(LABEL).to_numpy(zero_copy_only=True)
        return views


def _arrow_type(dtype: np.dtype) -> pa.DataType:
    return pa.from_numpy_dtype(dtype)
