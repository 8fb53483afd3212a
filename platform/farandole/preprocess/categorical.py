"""Categories: a vocabulary of the training split, or a hash. Id 0 is unknown, id 1 is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from farandole.preprocess.values import as_text, refuse_mangled
from farandole.spec import Categorical

UNKNOWN, MISSING = 0, 1
FIRST = 2
"""The first id that stands for a value."""


@dataclass(frozen=True)
class _OneId:
    """One category as one int32 id."""

    name: str
    column: str
    spec: Categorical

    @property
    def group(self) -> str:
        """The group that it belongs to."""
        return self.spec.group

    @property
    def features(self) -> tuple[str, ...]:
        """The name of its column in the group."""
        return (self.name,)


@dataclass(frozen=True)
class VocabularyTransform(_OneId):
    """The values of the training split, the most frequent first."""

    vocabulary: tuple[str, ...] | None = None

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many ids there are."""
        return (FIRST + len(self.vocabulary or ()),)

    @property
    def fitted(self) -> bool:
        """Whether nothing is left to learn."""
        return self.vocabulary is not None

    def observe(self, values: pa.Array) -> pa.StringArray:
        """What this pass must count.

        Raises:
            DataError: A value was not UTF-8 in its file.
        """
        text = as_text(self.column, values)
        refuse_mangled(self.column, text)
        return text

    def learn(self, counts: Counter[str]) -> VocabularyTransform:
        """The transform with its vocabulary: by falling count, then by value, so that no order is left to chance."""
        frequent = [(value, count) for value, count in counts.items() if count >= self.spec.min_count]
        frequent.sort(key=lambda pair: (-pair[1], pair[0]))
        return replace(self, vocabulary=tuple(value for value, _ in frequent[: self.spec.max_size]))

    def apply(self, values: pa.Array) -> np.ndarray:
        """int32 `[rows, 1]`."""
        assert self.vocabulary is not None, f"{self.name} is not fitted"
        text = as_text(self.column, values)
        found = pc.index_in(text, value_set=pa.array(self.vocabulary, pa.string()), skip_nulls=True)
        ids = pc.fill_null(pc.add(found, FIRST), UNKNOWN)
        ids = pc.if_else(pc.is_null(text), MISSING, ids)
        return np.asarray(ids.to_numpy(zero_copy_only=False), dtype=np.int32).reshape(-1, 1)

    def to_dict(self) -> dict[str, Any]:
        """As data, for the manifest."""
        return {
            "name": self.name,
            "column": self.column,
            "spec": self.spec.model_dump(mode="json"),
            "vocabulary": list(self.vocabulary or ()),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VocabularyTransform:
        """What `to_dict` was made of."""
        spec = Categorical.model_validate(data["spec"])
        return cls(data["name"], data["column"], spec, tuple(data["vocabulary"]))


@dataclass(frozen=True)
class HashTransform(_OneId):
    """A fixed number of buckets: nothing to learn, and values may collide."""

    fitted = True

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many ids there are."""
        return (FIRST + (self.spec.buckets or 0),)

    def apply(self, values: pa.Array) -> np.ndarray:
        """int32 `[rows, 1]`: 2 + xxh3-64(column name, 0, value) modulo the number of buckets."""
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

    def to_dict(self) -> dict[str, Any]:
        """As data, for the manifest."""
        spec = self.spec.model_dump(mode="json")
        return {"name": self.name, "column": self.column, "spec": spec}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> HashTransform:
        """What `to_dict` was made of."""
        return cls(data["name"], data["column"], Categorical.model_validate(data["spec"]))
