"""Raw columns: their SQL and Arrow types, and their conversion to the few plain forms that transforms work on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError

_SHOWN = 60
"""The number of characters of a value that an error shows."""
_MAX_EXACT = 2**53
"""The largest integer up to which float64 holds all integers."""
_ARROW_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}

_ROUNDING = 4
"""Distance of two doubles, in units in the last place, up to which a calculation's rounding explains it."""
_SAME_ORDER = 1e-3
"""Share of the largest absolute value from which a value is of its order."""
_MAX_ZEROS = 8
"""Distinct values near zero that rounding explains; a column with more of them has small values."""


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a SQL type.

    Raises:
        DataError: Columns of this type cannot become features.
    """
    decimal = re.fullmatch(r"decimal\((\d+),(\d+)\)", name)
    if decimal:
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    array = re.fullmatch(r"array<(.+)>", name)
    if array:
        return pa.list_(arrow_type(array[1]))
    if name not in _ARROW_TYPES:
        raise DataError(f"a column of type {name} cannot be a feature; cast it in the query")
    return _ARROW_TYPES[name]


def nearest_value(number: float, raw_type: pa.DataType) -> Any:
    """Return a number as Python reads it from a column of this type: rounded for integers, 0 if out of range."""
    try:
        return pa.array([round(number) if pa.types.is_integer(raw_type) else number]).cast(raw_type)[0].as_py()
    except pa.ArrowInvalid:  # a number of the job file that the column's type cannot represent
        return pa.array([0]).cast(raw_type)[0].as_py()


def as_numbers(column: str, values: pa.Array) -> np.ndarray:
    """Return float64 `[rows]`, NaN where missing; -0.0 becomes 0.0, as in Spark.

    Raises:
        DataError: The column does not contain numbers.
    """
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        values = values.cast(pa.float64(), safe=False)
    elif pa.types.is_string(kind):
        values = _parse_numbers(column, values)
    elif not pa.types.is_floating(kind):
        raise DataError(
            f"column {column}: {kind} is not a number, yet its feature is numeric; declare it as double, cast it in"
            " the query, or use `kind: categorical`"
        )
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float64) + 0.0


def _parse_numbers(column: str, text: pa.StringArray) -> pa.DoubleArray:
    """Parse numbers, with spaces around them or a sign; the column stays text because something else uses its texts."""
    trimmed = pc.ascii_trim(text, " \t")
    is_number = pc.match_substring_regex(trimmed, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")
    if not pc.all(is_number).as_py() and len(text) > text.null_count:
        found = text.filter(pc.invert(is_number))[0].as_py()[:_SHOWN]
        raise DataError(
            f"column {column}: {found!r} is not a number, yet its feature or label is; if it means a missing value,"
            " list it in `null_values` of the source, otherwise convert it in the query, or use `kind: categorical`"
        )
    return trimmed.cast(pa.float64())


def rounded_integers(values: pa.Array) -> np.ndarray | None:
    """Mark the integers that float64 rounds, 1.0 or 0.0 `[rows]`; None if there are none (of up to 2**53)."""
    if not pa.types.is_integer(values.type) or values.type.bit_width < 64:
        return None
    limits = pc.min_max(values)
    ends = (limits["min"].as_py(), limits["max"].as_py())
    if ends[0] is None or max(-ends[0], ends[1]) <= _MAX_EXACT:
        return None
    marks = np.array([value is not None and int(float(value)) != value for value in values.to_pylist()], np.float64)
    return marks if marks.any() else None


def without_rounding(numbers: np.ndarray) -> np.ndarray:
    """Return distinct numbers in ascending order, without those that differ only by the rounding of a calculation.

    The sine of 190 and of 350 degrees differs in the last bit of a double, and the sine of 180 degrees is 1.2e-16: no
    reader of a column would call these distinct. Whole numbers are never taken for roundings, and values near zero only
    where a column has both signs, so that tiny probabilities stay apart.

    Args:
        numbers: Finite float64 values.
    """
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        return distinct
    largest = np.abs(distinct).max()
    crosses_zero = distinct[0] < 0 < distinct[-1]
    scale = np.maximum(np.abs(distinct[1:]), np.abs(distinct[:-1]))
    fractions = (distinct != np.round(distinct))[1:] | (distinct != np.round(distinct))[:-1]
    # What is added up has the rounding of its largest part, so values of the largest one's order share its unit.
    unit = np.spacing(np.where(scale >= _SAME_ORDER * largest, largest, scale))
    rounded = fractions & (np.diff(distinct) <= _ROUNDING * unit)
    if crosses_zero:
        near_zero = np.abs(distinct) <= _ROUNDING * np.spacing(largest)
        if near_zero.sum() <= _MAX_ZEROS:
            rounded |= near_zero[1:] & near_zero[:-1]
    kept: np.ndarray = distinct[np.concatenate([[True], ~rounded])]
    return kept


def as_text(column: str, values: pa.Array) -> pa.StringArray:
    """Return the values as text, null where missing: `12`, `1.5`, `true`, `2013-01-31`.

    Raises:
        DataError: The column contains lists, structs or bytes.
    """
    if pa.types.is_floating(values.type):
        # NaN is missing, and -0.0 becomes 0.0.
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), pc.add(values, pa.scalar(0, values.type)))
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        raise DataError(
            f"column {column}: {values.type} cannot be a category or text; use `kind: image` or `kind: tensor`, or"
            " decode it in the query"
        )
    if pa.types.is_string(values.type):
        _reject_invalid_utf8(column, values)
    try:
        return values.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(
            f"column {column}: {values.type} cannot be a category; choose a column of text, numbers or dates"
        ) from error


def _reject_invalid_utf8(column: str, text: pa.StringArray) -> None:
    """Check that text is UTF-8; Spark does not check bytes that are cast to text."""
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"column {column}: contains bytes that are not UTF-8 text ({error}); decode them in the query, for example"
            f" by decode({column}, 'ISO-8859-1')"
        ) from error


def as_time(column: str, values: pa.Array) -> pa.Array:
    """Return timestamps in UTC, without a time zone.

    Raises:
        DataError: The column contains neither dates nor timestamps.
    """
    if pa.types.is_date(values.type):
        return values.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(values.type):
        # Removing the zone keeps the instant in UTC, from which the parts are read.
        return values.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us")) if values.type.tz else values
    raise DataError(
        f"column {column}: {values.type} is not a time, yet its feature is; declare it as timestamp or date, or cast"
        " it in the query"
    )
