"""Types that a column of text can have without loss: every text can be written again from its value, exactly.

`00501`, `1.10`, `1E2`, `+5` and integers of 20 digits are spellings that a number does not keep, so a column that holds
one of them is text. Types are examined by Arrow, a column at a time, and the result of a file's parts is what all of
them have in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from farandole.preprocess.text_types import convert_text

_NO_PATTERNS: Mapping[str, str | None] = {}

Spellings = frozenset[str]
"""Ways to write a column, each a type and a style: every text of the column is its value in that style."""

NUMBER = "number"
"""The spelling of texts that are plain numbers, although no type may keep how they are written, such as `1.10`."""
_TYPES = ("bigint", "double", "boolean", "date", "timestamp")
"""The types that are tried, the narrowest first; a column that fits none of them is text."""
_BOOLEANS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
_CODE = r"^[ \t]*[+-]?0[0-9]"
"""A code such as `00501`, or a number that is written like one."""
_MAX_NUMBER = 1e15
"""Numbers below it have at most 15 digits before the point, which doubles hold."""
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?P<sign>[T ])[0-9]{2}:[0-9]{2}(?P<seconds>:[0-9]{2})?(\.[0-9]{1,6})?"
    r"(?P<zone>Z|\+00:00)?"
)
_TO_SECONDS = len("2013-01-05 10:00:00")


def find_spellings(text: pa.StringArray, patterns: Mapping[str, str | None] = _NO_PATTERNS) -> Spellings | None:
    """Find the spellings that all texts of a column have; None if there is no text, which fits all of them.

    Args:
        text: The texts, null where missing.
        patterns: `date` and `timestamp` to the pattern that the source declares for them, in place of ISO 8601.
    """
    text = text.drop_null()
    if not len(text):
        return None
    for kind, pattern in patterns.items():
        if pattern and all(convert_text(part, kind, pattern)[1] is None for part in (text[:1], text)):
            return frozenset([f"{kind} as declared"])
    found = _whole_numbers(text) or _numbers(text) or _booleans(text) or _dates(text) or _times(text)
    return frozenset(name for name in found if not patterns.get(name.partition(" ")[0]))


def common_spellings(parts: Iterable[Spellings | None]) -> Spellings | None:
    """Return the spellings that the parts of a column have in common."""
    known = [part for part in parts if part is not None]
    return frozenset.intersection(*known) if known else None


def choose_type(spellings: Spellings | None, wanted: str | None = None) -> str:
    """Choose the SQL type of a column: the narrowest that keeps its texts, else the one that its uses need, else text.

    Args:
        spellings: The spellings of all texts.
        wanted: The type that everything that uses the column needs, or `NUMBER`: a double, if the texts are plain
            numbers. Default: its texts as they are.
    """
    if wanted == NUMBER:  # by a query that calculates: codes such as `00501` stay text
        wanted = "double" if spellings and NUMBER in spellings else None
    if spellings is None:
        return wanted or _TYPES[0]
    kinds = {spelling.partition(" ")[0] for spelling in spellings}
    return next((kind for kind in _TYPES if kind in kinds), wanted or "string")


def _whole_numbers(text: pa.StringArray) -> list[str]:
    try:
        values = text.cast(pa.int64())
    except pa.ArrowInvalid:
        return []
    if values.cast(pa.string()) != text:
        return []
    bounds = pc.min_max(values).as_py()
    is_small = max(abs(bounds["min"]), abs(bounds["max"])) < _MAX_NUMBER
    return ["bigint", NUMBER, "double 1"] if is_small else ["bigint"]


def _numbers(text: pa.StringArray) -> list[str]:
    """Return the spellings of doubles: `1` and `1.5`, or `1.0` and `1.5`, as Python and pandas write them."""
    values = _finite_numbers(text)
    if values is None:
        return []
    largest = pc.max(pc.abs(values)).as_py()
    whole = pc.equal(values, pc.trunc(values))
    plain = values.cast(pa.string())
    if largest < _MAX_NUMBER:  # Arrow writes whole numbers from 10 digits on with an exponent
        plain = pc.if_else(whole, pc.trunc(values).cast(pa.int64()).cast(pa.string()), plain)
    else:  # Arrow writes 1e+15, and Python 1000000000000000.0: Python's way decides about such numbers
        plain = pc.if_else(pc.and_(whole, pc.greater_equal(pc.abs(values), _MAX_NUMBER)), "", plain)
    spelled = {"double 1": plain, "double 1.0": pc.if_else(whole, pc.binary_join_element_wise(plain, "0", "."), plain)}
    found = [name for name, texts in spelled.items() if _is_spelled(text, texts, whole)]
    if pc.any(pc.and_(pc.equal(values, 0.0), pc.starts_with(text, "-"))).as_py():
        found = []  # the sign of -0 is lost
    is_code = not found and pc.any(pc.match_substring_regex(text, _CODE)).as_py()
    return found if largest >= _MAX_NUMBER or is_code else [*found, NUMBER]


def _finite_numbers(text: pa.StringArray) -> pa.DoubleArray | None:
    """Return the numbers that texts are, with spaces around them or a sign; None if one is not a finite number."""
    try:
        text[:1].cast(pa.float64())
        values = text.cast(pa.float64())
    except pa.ArrowInvalid:
        try:
            pc.ascii_trim(text[:1], " \t").cast(pa.float64())
            values = pc.ascii_trim(text, " \t").cast(pa.float64())
        except pa.ArrowInvalid:
            return None
    return values if pc.all(pc.is_finite(values)).as_py() else None


def _is_spelled(text: pa.StringArray, expected: pa.StringArray, whole: pa.BooleanArray) -> bool:
    """Return whether numbers are written as expected; large and small ones may have an exponent, as Python writes."""
    others = text.filter(pc.not_equal(text, expected))
    if pc.any(pc.invert(pc.match_substring(text.filter(pc.and_(whole, pc.not_equal(text, expected))), "e"))).as_py():
        return False
    return all(repr(float(value.as_py())) == value.as_py() for value in others)


def _booleans(text: pa.StringArray) -> list[str]:
    if pc.max(pc.binary_length(text)).as_py() > len("false"):
        return []
    values = set(text.unique().to_pylist())
    return [f"boolean {words[0]}" for words in _BOOLEANS if values <= set(words)]


def _dates(text: pa.StringArray) -> list[str]:
    try:
        is_date = text.cast(pa.date32()).cast(pa.string()) == text
    except pa.ArrowInvalid:
        return []
    return ["date"] if is_date and not _holds_year_0(text) else []


def _holds_year_0(text: pa.StringArray) -> bool:
    return bool(pc.any(pc.starts_with(text, "0000")).as_py())


def _times(text: pa.StringArray) -> list[str]:
    """Return the spellings of timestamps that are written alike, in UTC or without a zone."""
    match = _TIME.fullmatch(text[0].as_py())
    if match is None or _holds_year_0(text):
        return []
    sign, zone = match["sign"], match["zone"] or ""
    try:
        values = text.cast(pa.timestamp("us", "UTC" if zone else None)).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return []
    exact = pc.utf8_replace_slice(values.cast(pa.string()), 10, 11, sign)
    lengths = pc.min_max(pc.binary_length(text)).as_py()
    styles = {}
    if lengths["min"] == lengths["max"]:
        styles[str(lengths["min"])] = pc.utf8_slice_codeunits(exact, 0, lengths["min"] - len(zone))
    if match["seconds"]:
        seconds = pc.utf8_slice_codeunits(exact, 0, _TO_SECONDS)
        styles["python"] = pc.if_else(pc.ends_with(exact, ".000000"), seconds, exact)
        styles["short"] = pc.utf8_rtrim(pc.utf8_rtrim(exact, "0"), ".")
    spelled = {name: pc.binary_join_element_wise(texts, zone, "") if zone else texts for name, texts in styles.items()}
    return [f"timestamp {sign}{zone} {name}" for name, texts in spelled.items() if texts == text]
