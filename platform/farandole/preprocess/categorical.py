"""Categories as ids or one-hot columns of a vocabulary, or as hashes. Id 0 is unknown, id 1 is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from farandole.errors import DataError
from farandole.preprocess.transform import VALUES, ColumnsTransform, Measurements, onehot
from farandole.preprocess.values import as_text
from farandole.spec import Categorical

UNKNOWN, MISSING = 0, 1
FIRST = 2
"""The id of the first value."""


MAX_COLUMNS = 1000
"""The largest vocabulary that can be one-hot encoded."""


@dataclass(frozen=True)
class VocabularyTransform(ColumnsTransform):
    """The values of the training split, the most frequent first: one int32 id, or a float32 column for each."""

    spec: Categorical
    vocabulary: tuple[str, ...] | None = None

    SPEC = Categorical
    LEARNED = ("vocabulary",)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""
        if self.spec.encoding == "vocabulary":
            return (self.name,)
        return (*(f"{self.name}={value}" for value in self.vocabulary or ()), f"{self.name}_missing")

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of ids."""
        return (FIRST + len(self.vocabulary or ()),) if self.spec.encoding == "vocabulary" else ()

    @property
    def fitted(self) -> bool:
        """True once nothing is left to learn."""
        return self.vocabulary is not None

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return the values to count.

        Raises:
            DataError: The values are not text, or not UTF-8.
        """
        text = as_text(self.column, values)
        return {VALUES: text}

    def learn(self, measurements: Measurements) -> VocabularyTransform:
        """Return the transform with its vocabulary, by descending count and then by value, so that it is deterministic.

        Raises:
            DataError: There are more values than can have a column each.
        """
        counts = measurements.get(VALUES, Counter())
        assert isinstance(counts, Counter)
        frequent = [(value, count) for value, count in counts.items() if count >= self.spec.min_count]
        frequent.sort(key=lambda pair: (-pair[1], pair[0]))
        vocabulary = tuple(value for value, _ in frequent[: self.spec.max_size])
        if self.spec.encoding == "onehot" and len(vocabulary) > MAX_COLUMNS:
            raise DataError(
                f"{self.origin}: {len(vocabulary):,} values would become as many columns, and onehot makes at most"
                f" {MAX_COLUMNS:,}; set max_size or min_count, or use `encoding: vocabulary`"
            )
        return replace(self, vocabulary=vocabulary)

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return int32 `[rows, 1]`, or float32 `[rows, values + 1]`."""
        assert self.vocabulary is not None, f"{self.name} is not fitted"
        text = as_text(self.column, values)
        indices = pc.index_in(text, value_set=pa.array(self.vocabulary, pa.string()), skip_nulls=True)
        ids = pc.fill_null(pc.add(indices, FIRST), UNKNOWN)
        ids = pc.if_else(pc.is_null(text), MISSING, ids)
        numbers = np.asarray(ids.to_numpy(zero_copy_only=False), dtype=np.int32)
        if self.spec.encoding == "onehot":
            return onehot(numbers, FIRST, MISSING, len(self.vocabulary))
        return numbers.reshape(-1, 1)

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return the most frequent value."""
        return pa.array([self.vocabulary[0]]).cast(raw_type)[0].as_py() if self.vocabulary else _any_value(raw_type)


@dataclass(frozen=True)
class HashTransform(ColumnsTransform):
    """A hash bucket as one int32 id: nothing to learn, and values may collide."""

    spec: Categorical

    SPEC = Categorical

    @property
    def features(self) -> tuple[str, ...]:
        """The name of its column in the group."""
        return (self.name,)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of ids."""
        return (FIRST + (self.spec.buckets or 0),)

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return int32 `[rows, 1]`: 2 + xxh3-64(column name, 0, value) modulo the number of buckets."""
        assert self.spec.buckets is not None
        # Each distinct value is hashed once, not each row.
        encoded = as_text(self.column, values).dictionary_encode()
        prefix = self.column.encode() + b"\0"
        hashes = [
            FIRST + xxhash.xxh3_64_intdigest(prefix + value.encode()) % self.spec.buckets
            for value in encoded.dictionary.to_pylist()
        ]
        table = np.array([*hashes, MISSING], dtype=np.int32)
        indices = np.asarray(pc.fill_null(encoded.indices, len(hashes)).to_numpy(zero_copy_only=False))
        ids: np.ndarray = table[indices].reshape(-1, 1)
        return ids

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return any value."""
        return _any_value(raw_type)


def _any_value(raw_type: pa.DataType) -> Any:
    """Return a value of a type for which none was learned; None for times."""
    return pa.array(["1"]).cast(raw_type)[0].as_py() if not pa.types.is_temporal(raw_type) else None
