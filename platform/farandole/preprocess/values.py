"""Raw Arrow columns as the few plain forms that transforms work on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError

_SHOWN = 60
"""Characters of a value that an error shows."""


def as_numbers(column: str, values: pa.Array) -> np.ndarray:
    """float64 `[rows]`, NaN where missing; -0.0 is 0.0, as it is for Spark.

    Raises:
        DataError: The column holds no numbers.
    """
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        values = values.cast(pa.float64(), safe=False)
    elif not pa.types.is_floating(kind):
        raise DataError(
            f"column {column}: {kind} is not a number, yet its feature is numeric; declare it as double, cast it in"
            " the query, or use `kind: categorical`"
        )
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float64) + 0.0


def as_text(column: str, values: pa.Array) -> pa.StringArray:
    """The values as text, null where missing: `12`, `1.5`, `true`, `2013-01-31`.

    Raises:
        DataError: The column holds lists, structs or bytes.
    """
    if pa.types.is_floating(values.type):
        # NaN is missing, and -0.0 is 0.0.
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), pc.add(values, pa.scalar(0, values.type)))
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        raise DataError(
            f"column {column}: {values.type} cannot be a category or text; use `kind: image` or `kind: tensor`, or"
            " decode it in the query"
        )
    if pa.types.is_string(values.type):
        _refuse_bytes(column, values)
    try:
        return values.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(
            f"column {column}: {values.type} cannot be a category; choose a column of text, numbers or dates"
        ) from error


def _refuse_bytes(column: str, text: pa.StringArray) -> None:
    """Check that text is UTF-8; Spark passes on bytes that were cast to text as they are."""
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"column {column}: holds bytes that are not UTF-8 text ({error}); decode them in the query, for example"
            f" by decode({column}, 'ISO-8859-1')"
        ) from error


def reject_replacement_characters(column: str, text: pa.StringArray) -> None:
    """Check that no value holds the sign that stands for bytes which were not UTF-8.

    Raises:
        DataError: One does: different values may have become the same.
    """
    found = text.filter(pc.fill_null(pc.match_substring(text, "\ufffd"), False))
    if len(found):
        shown = found[0].as_py()[:_SHOWN]
        raise DataError(
            f"column {column}: {shown!r} was not UTF-8 text in its file ({len(found)} rows of a batch); save"
            " the file as UTF-8"
        )


def as_time(column: str, values: pa.Array) -> pa.Array:
    """Timestamps in UTC.

    Raises:
        DataError: The column holds neither dates nor timestamps.
    """
    if pa.types.is_date(values.type):
        return values.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(values.type):
        # Dropping the zone keeps the instant in UTC, which is what the parts are read in.
        return values.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us")) if values.type.tz else values
    raise DataError(
        f"column {column}: {values.type} is not a time, yet its feature is; declare it as timestamp or date, or cast"
        " it in the query"
    )
