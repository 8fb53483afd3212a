"""Arrays of a fixed shape, copied unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.preprocess.transform import Transform
from farandole.shards import Group
from farandole.spec import Tensor


@dataclass(frozen=True)
class TensorTransform(Transform):
    """A list of numbers, a list of such lists, or bytes: as one tensor. Nothing to learn."""

    spec: Tensor

    SPEC = Tensor

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its own group."""
        (name,) = self.spec.groups(self.name)
        group = Group(
            name=name, kind="tensor", features=(self.name,), shape=self.spec.shape, value_type=self.spec.dtype
        )
        return (group,)

    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """Return the values as `[rows, *shape]`; -0.0 becomes 0.0, which Spark considers equal when it sorts rows.

        Raises:
            DataError: A row is missing, has another number of values, or a value that the type cannot represent.
        """
        if values.null_count:
            raise DataError(
                f"{self.origin}: {values.null_count} of a batch of {len(values)} rows have no array; filter them out in"
                f" the query: WHERE {self.column} IS NOT NULL"
            )
        kind = values.type
        flat = self._from_bytes(values) if pa.types.is_binary(kind) else self._from_lists(values)
        if flat.dtype.kind == "f":
            if not np.isfinite(flat).all():
                raise DataError(
                    f"{self.origin}: {int((~np.isfinite(flat)).sum())} values of a batch are not finite as"
                    f" {self.spec.dtype}; fix them or filter them out in the query"
                )
            flat += 0
        return {self.groups[0].name: flat.reshape(len(values), *self.spec.shape)}

    def _from_bytes(self, values: pa.Array) -> np.ndarray:
        dtype = np.dtype(self.spec.dtype).newbyteorder("<")
        size = math.prod(self.spec.shape) * dtype.itemsize
        self._check_lengths(pc.binary_length(values), size, "bytes")
        if not len(values):
            return np.empty(0, dtype.newbyteorder("="))
        _, offsets, data = values.buffers()
        start = int(np.frombuffer(offsets, np.int32)[values.offset])
        return np.frombuffer(data, dtype, count=len(values) * math.prod(self.spec.shape), offset=start).astype(
            dtype.newbyteorder("=")
        )

    def _from_lists(self, values: pa.Array) -> np.ndarray:
        """Flatten lists level by level, so that [[1, 2], [3, 4]] is not accepted as a row of another shape.

        A flat list of all the values is accepted as well.
        """
        nested = _depth(values.type) == len(self.spec.shape)
        lengths = self.spec.shape if nested else (math.prod(self.spec.shape),)
        for length in lengths:
            if not pa.types.is_list(values.type) and not pa.types.is_fixed_size_list(values.type):
                raise DataError(
                    f"{self.origin}: {values.type} is not an array of shape {list(self.spec.shape)}; give arrays of"
                    " numbers, nested as deep as the shape or flat, or bytes"
                )
            self._check_lengths(pc.list_value_length(values), length, "values")
            values = values.flatten()
            if values.null_count:
                raise DataError(
                    f"{self.origin}: {values.null_count} values inside the arrays of a batch are missing; replace them"
                    " in the query, for example by transform(…, x -> coalesce(x, 0))"
                )
        wanted = pa.from_numpy_dtype(np.dtype(self.spec.dtype))
        try:
            if pa.types.is_boolean(values.type):
                values = values.cast(pa.uint8())
            # Rounding to a shorter float is what the job asks for; any other conversion must be exact.
            rounds = pa.types.is_floating(values.type) and pa.types.is_floating(wanted)
            return np.array(values.cast(wanted, safe=not rounds).to_numpy(zero_copy_only=False))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"{self.origin}: {values.type} does not fit into {self.spec.dtype} ({error}); choose another dtype, or"
                " cast in the query"
            ) from error

    def _check_lengths(self, lengths: pa.Array, wanted: int, what: str) -> None:
        wrong = lengths.filter(pc.not_equal(lengths, wanted))
        if len(wrong):
            raise DataError(
                f"{self.origin}: {len(wrong)} of {len(lengths)} have {wrong[0].as_py()} {what} (the first of them), and"
                f" {self.spec.dtype}{list(self.spec.shape)} needs {wanted}; fix the query or `shape`"
            )

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return zeros."""
        size = math.prod(self.spec.shape)
        if pa.types.is_binary(raw_type):
            return bytes(size * np.dtype(self.spec.dtype).itemsize)
        shape = self.spec.shape if _depth(raw_type) == len(self.spec.shape) else (size,)
        return np.zeros(shape, dtype=np.int64).tolist()


def _depth(arrow_type: pa.DataType) -> int:
    """Return the nesting depth of a list type."""
    depth = 0
    while pa.types.is_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type):
        depth, arrow_type = depth + 1, arrow_type.value_type
    return depth
