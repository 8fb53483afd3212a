"""A column of raw data as the guesses see it: its type, its values, and a few counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_COUNTABLE = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_temporal)


@dataclass(frozen=True)
class Column:
    """One column of the rows that were looked at.

    Args:
        name: Its name in the files.
        values: Its values, null where missing; NaN is missing too.
    """

    name: str
    values: pa.Array

    @classmethod
    def from_values(cls, name: str, values: pa.Array | pa.ChunkedArray) -> Column:
        """Return a column of one chunk, with dictionaries decoded and NaN replaced by null."""
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
            values = values.cast(pa.string())
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return cls(name, values)

    @property
    def kind(self) -> str:
        """One of `text`, `integer`, `number`, `boolean`, `date`, `timestamp`, `bytes`, `other`."""
        data = self.values.type
        if pa.types.is_string(data):
            return "text"
        if pa.types.is_integer(data):
            return "integer"
        if pa.types.is_floating(data) or pa.types.is_decimal(data):
            return "number"
        if pa.types.is_boolean(data):
            return "boolean"
        if pa.types.is_date(data):
            return "date"
        if pa.types.is_timestamp(data):
            return "timestamp"
        return "bytes" if pa.types.is_binary(data) or pa.types.is_large_binary(data) else "other"

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.values)

    @property
    def missing(self) -> int:
        """The number of missing values."""
        return int(self.values.null_count)

    @property
    def present(self) -> int:
        """The number of values that are not missing."""
        return self.rows - self.missing

    @cached_property
    def counts(self) -> pa.StructArray:
        """Each distinct value and how often it occurs, the most frequent first; empty where values have no order."""
        if self.kind != "text" and not any(test(self.values.type) for test in _COUNTABLE):
            return pa.StructArray.from_arrays([pa.array([], pa.null()), pa.array([], pa.int64())], ["values", "counts"])
        counts = pc.value_counts(self.values.drop_null())
        order = pc.sort_indices(counts.field("counts"), sort_keys=[("", "descending")])
        return counts.take(order)

    @property
    def distinct(self) -> int:
        """The number of distinct values."""
        return len(self.counts)

    @property
    def top(self) -> list[tuple[object, int]]:
        """The most frequent values, at most 20, with their counts."""
        return [(entry["values"], entry["counts"]) for entry in self.counts.slice(0, 20).to_pylist()]

    @cached_property
    def numbers(self) -> np.ndarray:
        """The values as float64 `[rows]`, NaN where missing; for numbers, booleans and times."""
        values = self.values
        if pa.types.is_temporal(values.type):
            values = values.cast(pa.timestamp("us")) if pa.types.is_date(values.type) else values
            values = values.cast(pa.int64())
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)

    @cached_property
    def is_whole(self) -> bool:
        """True for numbers without fractions, also those stored as floats."""
        if self.kind == "integer":
            return True
        if self.kind != "number" or not self.present:
            return False
        numbers = self.numbers[np.isfinite(self.numbers)]
        return bool((numbers == np.floor(numbers)).all() and (np.abs(numbers) < 2**53).all())

    @cached_property
    def words(self) -> float:
        """The mean number of words of a text."""
        distinct = self.values.drop_null().slice(0, 20_000)
        if not len(distinct):
            return 0.0
        return float(pc.mean(pc.add(pc.count_substring_regex(pc.utf8_trim_whitespace(distinct), r"\s+"), 1)).as_py())

    @property
    def name_words(self) -> tuple[str, ...]:
        """The words of the name in lower case: `userId`, `USER_ID` and `user id` are `user` and `id`."""
        spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", self.name)
        return tuple(re.findall(r"[^\W_]+", spaced.lower()))
