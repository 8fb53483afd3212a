"""Conversion of text columns to their declared types, and detection of the values that do not fit.

Arrow casts whole columns, which is fast and strict. Only if it raises is each distinct value examined: a value in
another spelling (`+5`, ` 5`, `2013-1-5`, a pattern of the user) is rewritten in Arrow's spelling, and cast again.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.preprocess.values import arrow_type
from farandole.spec import MONTHS, time_regex

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), "true"),
    **dict.fromkeys(("false", "f", "no", "n", "0"), "false"),
}
_ISO_DATE = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})")
_ISO_TIME = re.compile(
    _ISO_DATE.pattern
    + r"([T ](?P<hour>[0-9]{1,2})(:(?P<minute>[0-9]{1,2})(:(?P<second>[0-9]{1,2})(\.(?P<fraction>[0-9]{1,9}))?)?)?"
    r" ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
_BITS = {"int": 32, "bigint": 64}


def convert_text(text: pa.StringArray, kind: str, pattern: str | None = None) -> tuple[pa.Array, np.ndarray | None]:
    """Convert a column of text to another type.

    Args:
        text: The values, null where missing.
        kind: The SQL type.
        pattern: The pattern of dates or timestamps, in Spark's letters; None: ISO 8601, in UTC unless a zone is named.

    Returns:
        The values, null where one does not fit; and a mask of those that do not, bool `[rows]`, or None if all fit.
    """
    if kind == "string":
        return text, None
    if pattern is None:
        try:
            return _cast(text, kind), None
        except pa.ArrowInvalid:
            pass  # a value is wrong or spelled differently: examine each
    encoded = text.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    spell = _speller(kind, pattern)
    proper = pa.array([spell(value.strip(" \t")) for value in distinct], pa.string())
    values = _cast(proper, kind).take(encoded.indices)
    wrong = pc.and_(values.is_null(), text.is_valid()).to_numpy(zero_copy_only=False)
    return values, wrong if wrong.any() else None


def _cast(text: pa.StringArray, kind: str) -> pa.Array:
    """Cast a column with Arrow, but reject hexadecimal and infinite numbers, which Arrow accepts.

    Raises:
        ArrowInvalid: A value does not fit.
    """
    if kind in _BITS and _holds_x(text):
        raise pa.ArrowInvalid("hexadecimal")
    if kind == "timestamp":
        try:
            return text.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        except pa.ArrowInvalid:
            return text.cast(pa.timestamp("us", "UTC"))
    values = text.cast(arrow_type(kind))
    if kind in ("float", "double") and not pc.all(pc.is_finite(values)).as_py() and len(values) > values.null_count:
        raise pa.ArrowInvalid("not finite")
    return values


def _holds_x(text: pa.StringArray) -> bool:
    """Return whether a value may be hexadecimal; one search through all bytes is faster than one in each value."""
    buffer = text.buffers()[2]
    content = buffer.to_pybytes() if buffer else b""
    return b"x" in content or b"X" in content


def _speller(kind: str, pattern: str | None) -> Callable[[str], str | None]:
    """Return the function that spells one value as Arrow's cast accepts it, or returns None if it does not fit."""
    if kind in _BITS:
        return lambda text: _whole(text, _BITS[kind])
    if kind in ("float", "double"):
        return lambda text: _number(text, single=kind == "float")
    if kind == "boolean":
        return lambda text: _BOOLEANS.get(text.lower())
    if kind == "date":
        regex = time_regex(pattern) if pattern else _ISO_DATE
        return lambda text: _spell_time(text, regex, day_alone=True)
    if kind == "timestamp":
        regex = time_regex(pattern) if pattern else _ISO_TIME
        return lambda text: _spell_time(text, regex, day_alone=False)
    precision, scale = (int(number) for number in re.findall(r"\d+", kind))
    return lambda text: _decimal(text, precision, scale)


def _whole(text: str, bits: int) -> str | None:
    if not _WHOLE.fullmatch(text) or len(text) > 100:
        return None
    number = int(text)
    return str(number) if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1) else None


def _number(text: str, *, single: bool) -> str | None:
    if not _NUMBER.fullmatch(text):
        return None
    with np.errstate(over="ignore"):
        number = np.float32(text) if single else float(text)
    return text.removeprefix("+") if math.isfinite(number) else None


def _decimal(text: str, precision: int, scale: int) -> str | None:
    """Spell a decimal number; one with more digits than the type does not fit, and is not rounded."""
    try:
        number = Decimal(text) if _NUMBER.fullmatch(text) else None
        if number is None or number.adjusted() >= precision - scale or number.as_tuple().exponent < -400:  # type: ignore[operator]
            return None
        scaled = number.scaleb(scale)
        whole = scaled == scaled.to_integral_value() and abs(scaled) < 10**precision
        return f"{number:f}" if whole else None
    except InvalidOperation:
        return None


def _spell_time(text: str, regex: re.Pattern[str], *, day_alone: bool) -> str | None:
    match = regex.fullmatch(text)
    try:
        if match is None:
            return None
        moment = _moment({name: part for name, part in match.groupdict().items() if part})
        return moment.date().isoformat() if day_alone else moment.isoformat()
    except (ValueError, OverflowError):
        return None  # the day, hour or year does not exist


def _moment(parts: dict[str, str]) -> datetime.datetime:
    """Return the moment that matched groups name, in UTC."""
    year = int(parts["year"]) if "year" in parts else 2000 + int(parts["short_year"])
    month = int(parts["month"]) if "month" in parts else 1 + MONTHS.index(parts["month_name"][:3].lower())
    hour = int(parts.get("hour", 0))
    if "hour12" in parts:
        hour = int(parts["hour12"]) % 12 + 12 * (parts.get("half", "am").lower() == "pm")
        if not 1 <= int(parts["hour12"]) <= 12:
            raise ValueError("not an hour of a 12-hour clock")
    microsecond = int(parts.get("fraction", "0")[:6].ljust(6, "0"))
    day, minute, second = (
        int(parts.get(name, default)) for name, default in (("day", 1), ("minute", 0), ("second", 0))
    )
    moment = datetime.datetime(year, month, day, hour, minute, second, microsecond)
    return moment - _offset(parts.get("zone", "Z"))


def _offset(zone: str) -> datetime.timedelta:
    if zone[0] not in "+-":
        return datetime.timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    if int(digits[:2]) > 18 or int(digits[2:]) > 59:
        raise ValueError("not a time zone offset")
    offset = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return offset if zone[0] == "+" else -offset
