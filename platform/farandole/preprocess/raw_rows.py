"""Raw rows that do not come from Spark, converted to the types that the transforms were fitted on.

Notebooks and servers hold the rows of a source in many forms: texts as they stand in a file, JSON, pandas columns of
numbers with gaps, categories, times with zones. Each value becomes what the reader of the source made of it in
training, or is an error; none is converted with loss.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.preprocess.text_types import convert_text
from farandole.preprocess.values import arrow_type
from farandole.spec import Source

_NO_TEXTS: frozenset[str] = frozenset()
_MAX_EXACT = 2**53
"""Floating-point numbers from here on may stand for several integers."""
_READ_AS = {"tinyint": "int", "smallint": "int", "timestamp_ntz": "timestamp"}
"""Types that only Parquet files have: the type that a text of them is read as."""
_WHOLE_WITH_POINT = r"^([+-]?[0-9]+)\.0+$"
"""Form in which pandas writes integers of a column with missing values."""
_SHOWN = 60


@dataclass(frozen=True)
class RawForm:
    """Spelling of a column in the sources of a dataset.

    Args:
        null_values: Texts that mean a missing value, and so do numbers and times that are written like them.
        timestamp_format: The pattern of timestamps; ISO 8601 is read as well.
        date_format: The pattern of dates; ISO 8601 is read as well.
        may_be_absent: Whether rows may lack the column, as JSON objects may lack a member: the value is missing then.
    """

    null_values: tuple[str, ...] = ()
    timestamp_format: str | None = None
    date_format: str | None = None
    may_be_absent: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the form as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RawForm:
        """Restore a form from the result of `to_dict`."""
        return cls(**{**data, "null_values": tuple(data["null_values"])})


def find_forms(sources: Mapping[str, Source], columns: Iterable[str]) -> dict[str, RawForm]:
    """Return how the sources write each column: those that declare it, or may hold it because they declare nothing."""
    return {column: _find_form(sources, column) for column in columns}


def _find_form(sources: Mapping[str, Source], column: str) -> RawForm:
    found = [source for source in sources.values() if column in (getattr(source, "columns", None) or (column,))]
    texts = [text for source in found for text in getattr(source, "null_values", ())]
    texts += ["" for source in found if source.format == "csv"]
    patterns = {
        name: next((pattern for source in found if (pattern := getattr(source, name, None))), None)
        for name in ("timestamp_format", "date_format")
    }
    absent = any(source.format == "json" for source in found)
    return RawForm(tuple(dict.fromkeys(texts)), **patterns, may_be_absent=absent)


def convert_column(
    column: str, values: Any, sql_type: str, form: RawForm | None = None, known: frozenset[str] = _NO_TEXTS
) -> pa.Array:
    """Convert a column to its type.

    Args:
        column: The column, for errors.
        values: A list, an array or a pandas series; None and NaN are missing.
        sql_type: The SQL type that the column had in training.
        form: How the sources write the column.
        known: Texts that were data in training, so that they do not mean a missing value.

    Raises:
        DataError: A value does not fit the type.
    """
    form = form or RawForm()
    try:
        found = _as_arrow(values)
        if sql_type.startswith("array<"):
            return _as_lists(found, sql_type)
        if pa.types.is_list(found.type) and len(found) == 1 and pa.types.is_string(found.type.value_type):
            found = found.flatten()  # MLflow's server packs columns of text so
        if not pa.types.is_string(found.type):
            converted = _convert_typed(found, sql_type, known)
            return _without(converted, _null_values_of(sql_type, form, known))
        return _convert_texts(column, _without(found, _null_texts(sql_type, form, known)), sql_type, form)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, KeyError, RecursionError) as error:
        # a KeyError is an unknown time zone, a RecursionError a text of a thousand brackets
        raise DataError(f"column {column}: is not {sql_type} ({error}); send such values") from error


def _as_arrow(values: Any) -> pa.Array:
    """Return the values as Arrow's array, or as texts if they are of several types."""
    if isinstance(values, str | bytes | Mapping):  # Python would iterate over its characters or its keys
        raise TypeError(f"a {type(values).__name__} is one value, and not a list of them")
    if str(getattr(values, "dtype", "")) == "category":
        values = values.astype(object)
    if isinstance(values, np.ndarray) and values.ndim != 1:
        values = list(values)
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        array = pa.array([_as_text(value) for value in values], pa.string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _as_text(value: Any) -> str | None:
    """Write one value of a column with values of several types."""
    if value is None or value != value or str(value) in ("<NA>", "NaT"):
        return None
    if isinstance(value, bytes | list | dict | tuple | np.ndarray):
        raise TypeError(f"{type(value).__name__} among other values")
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, datetime.date):
        return value.isoformat()
    return _whole(value) if isinstance(value, float) else str(value)


def _whole(number: float) -> str:
    """Write a number, without a point if it is whole and exact."""
    return str(int(number)) if number.is_integer() and abs(number) < _MAX_EXACT else repr(number)


# Texts ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)  # a service converts single rows, for which this would take longer than all else
def _null_texts(sql_type: str, form: RawForm, known: frozenset[str]) -> pa.Array:
    """Return the texts that mean a missing value; only a column of text may hold an empty text."""
    texts = [text for text in form.null_values if sql_type != "string" or text not in known]
    return pa.array(texts if sql_type == "string" else [*texts, ""], pa.string())


def _convert_texts(column: str, text: pa.StringArray, sql_type: str, form: RawForm) -> pa.Array:
    if sql_type == "string":
        return text
    if sql_type == "binary":
        return _decode(text)
    kind = _READ_AS.get(sql_type, sql_type)
    values: pa.Array = pa.nulls(len(text), text.type)
    for convert in _conversions(kind, form):
        values, wrong = convert(text)
        if wrong is None:
            return values.cast(arrow_type(sql_type))
    misfits = text.filter(pa.array(wrong))
    shown = misfits[0].as_py()[:_SHOWN]
    raise DataError(
        f"column {column}: {shown!r} is not {sql_type} ({len(misfits)} of {len(text)} rows); send values as training"
        " saw them, and missing ones as null"
    )


def _conversions(kind: str, form: RawForm) -> list[Callable[[pa.StringArray], tuple[pa.Array, np.ndarray | None]]]:
    """Return the ways to read a text: as the source writes it, as ISO 8601, and as pandas writes it again."""
    pattern = {"timestamp": form.timestamp_format, "date": form.date_format}.get(kind)
    ways = [lambda text: convert_text(text, kind, pattern)] if pattern else []
    ways.append(lambda text: convert_text(text, kind))
    if kind in ("int", "bigint"):
        ways.append(lambda text: convert_text(pc.replace_substring_regex(text, _WHOLE_WITH_POINT, r"\1"), kind))
    if kind == "date":
        ways.append(_days_of_midnights)
    return ways


def _days_of_midnights(text: pa.StringArray) -> tuple[pa.Array, np.ndarray | None]:
    times, wrong = convert_text(text, "timestamp")
    days = times.cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    later = pc.fill_null(pc.not_equal(days.cast(pa.timestamp("us")), times.cast(pa.timestamp("us"))), False)
    mask = later.to_numpy(zero_copy_only=False) | (np.zeros(len(text), bool) if wrong is None else wrong)
    return days, mask if mask.any() else None


def _decode(text: pa.StringArray) -> pa.Array:
    """Decode bytes, which JSON holds as base64, perhaps in lines as MIME writes it."""
    try:
        lines = ["".join(value.split()) if value is not None else None for value in text.to_pylist()]
        decoded = [None if line is None else base64.b64decode(line, validate=True) for line in lines]
    except binascii.Error as error:
        raise ValueError(f"a text is not base64: {error}") from error
    return pa.array(decoded, pa.binary())


# Typed values --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _null_values_of(sql_type: str, form: RawForm, known: frozenset[str]) -> pa.Array:
    """Return the values of a type that are written like a missing value, such as -999."""
    texts = _null_texts(sql_type, form, known)
    if sql_type in ("string", "binary"):
        return texts.cast(arrow_type(sql_type))
    kind = _READ_AS.get(sql_type, sql_type)
    pattern = {"timestamp": form.timestamp_format, "date": form.date_format}.get(kind)
    return convert_text(texts, kind, pattern)[0].cast(arrow_type(sql_type), safe=False).drop_null()


def _convert_typed(found: pa.Array, sql_type: str, known: Set[str]) -> pa.Array:
    kind, wanted = found.type, arrow_type(sql_type)
    if pa.types.is_null(kind):
        return pa.nulls(len(found), wanted)
    if pa.types.is_floating(kind):
        found = pc.if_else(pc.is_nan(found), pa.scalar(None, kind), found)
    if pa.types.is_string(wanted):
        return _spell(found, known)
    if pa.types.is_boolean(wanted) and not pa.types.is_boolean(kind):
        return convert_text(_all_fit(_spell(found, _NO_TEXTS), "boolean"), "boolean")[0]
    if pa.types.is_temporal(wanted):
        return _as_times(found, wanted)
    if pa.types.is_temporal(kind):
        raise TypeError(f"values are {kind}")
    if pa.types.is_boolean(kind) and not pa.types.is_boolean(wanted):
        found = found.cast(pa.int8())
    if pa.types.is_decimal(wanted):
        return convert_text(_all_fit(found.cast(pa.string()), sql_type), sql_type)[0]
    if pa.types.is_integer(wanted) and pa.types.is_floating(kind):
        if pc.any(pc.greater_equal(pc.abs(found), _MAX_EXACT)).as_py():
            raise ValueError("integers from 2**53 on are not exact in a column with gaps; send them as texts")
        return found.cast(wanted)
    return _as_floats(found, wanted) if pa.types.is_floating(wanted) else found.cast(wanted)


def _as_floats(found: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Convert numbers to the nearest floating-point numbers.

    Raises:
        ValueError: A number is beyond the largest one of the type, and would become infinite.
    """
    numbers = found.cast(wanted, safe=False)
    beyond = pc.and_(pc.is_inf(numbers), pc.invert(pc.is_inf(found.cast(pa.float64(), safe=False))))
    if pc.any(beyond).as_py():
        raise ValueError(f"{found.filter(beyond)[0].as_py()} is beyond the largest {wanted}")
    return numbers


def _all_fit(text: pa.StringArray, kind: str) -> pa.StringArray:
    """Return texts that all are values of a type.

    Raises:
        ValueError: One is not.
    """
    wrong = convert_text(text, kind)[1]
    if wrong is not None:
        raise ValueError(f"{text.filter(pa.array(wrong))[0].as_py()} is not {kind}")
    return text


def _as_times(found: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Convert dates and timestamps of any unit, in any zone or none, which means UTC."""
    kind = found.type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise TypeError(f"values are {kind}, and a number may count days, seconds or more; send texts in ISO 8601")
    if pa.types.is_timestamp(kind) and kind.tz and pa.types.is_date(wanted):
        found = pc.local_timestamp(found)
    if pa.types.is_timestamp(found.type) and found.type.unit == "ns":
        found = _round_to_microseconds(found)
    unit = pa.timestamp("us", kind.tz if pa.types.is_timestamp(found.type) and found.type.tz else None)
    times = found.cast(unit, safe=False)
    converted = times.cast(wanted, safe=False)
    if pa.types.is_date(wanted) and (later := times.filter(pc.not_equal(converted.cast(unit), times))):
        raise ValueError(f"{later[0].as_py()} has a time of day")
    return converted


def _round_to_microseconds(found: pa.TimestampArray) -> pa.TimestampArray:
    """Round nanoseconds half up, as the reader of Parquet files does."""
    nanoseconds = pc.fill_null(found.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    microseconds = nanoseconds // 1000 + (nanoseconds % 1000 >= 500)
    missing = pc.is_null(found).to_numpy(zero_copy_only=False)
    return pa.array(microseconds, pa.int64(), mask=missing).cast(pa.timestamp("us", found.type.tz))


def _spell(found: pa.Array, known: Set[str]) -> pa.StringArray:
    """Write typed values as the texts that training saw, where one spelling is among the known texts."""
    if pa.types.is_binary(found.type) or pa.types.is_large_binary(found.type):
        return found.cast(pa.string())
    encoded = found.dictionary_encode()
    texts = [_spelling(value, known) for value in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _spelling(value: Any, known: Set[str]) -> str:
    spellings = [_as_text(value) or "", str(value)]
    if isinstance(value, bool):
        spellings += [str(value).upper()]
    if isinstance(value, datetime.datetime):
        spellings += [value.isoformat(sep=" "), value.isoformat().replace("+00:00", "Z"), value.date().isoformat()]
    return next((text for text in spellings if text in known), spellings[0])


def _as_lists(found: pa.Array, sql_type: str) -> pa.Array:
    if pa.types.is_string(found.type):
        found = pa.array([None if text is None else json.loads(text) for text in found.to_pylist()])
    wanted = arrow_type(sql_type)
    if not (_is_list(found.type) or pa.types.is_null(found.type)):
        raise TypeError(f"values are {found.type}, and not lists")
    if pa.types.is_floating(wanted.value_type) and not pa.types.is_null(found.type):
        _as_floats(found.flatten(), wanted.value_type)
    return found.cast(wanted)


def _is_list(kind: pa.DataType) -> bool:
    found: bool = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return found


def _without(values: pa.Array, missing: pa.Array) -> pa.Array:
    """Return the values, null where one is among the missing ones."""
    if not len(missing):
        return values
    return pc.if_else(pc.is_in(values, value_set=missing), pa.scalar(None, values.type), values)
