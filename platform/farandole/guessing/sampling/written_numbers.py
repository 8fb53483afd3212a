"""Numbers as people write them (`$1,234.50`, `12,5`, `7 %`) and words for true and false in several spellings."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

_SIGNS = r"[$€£¥₹%]|USD|EUR|GBP|CHF"
_UNIT = rf"\s*(?:{_SIGNS})?\s*"


def _form(groups: str, fraction: str) -> re.Pattern[str]:
    """Return the pattern of numbers: `-$1,234.50`, or `($1,234.50)` as accountants write it."""
    digits = rf"(?:[1-9]\d{{0,2}}(?:[{groups}]\d{{3}})+|\d+)(?:{fraction}\d+)?"
    return re.compile(rf"{_UNIT}[-+]?{_UNIT}{digits}{_UNIT}|\s*\({_UNIT}{digits}{_UNIT}\)\s*")


_SPACES = " '\u00a0\u202f"
_FORMS = {".": _form(f",{_SPACES}", r"\."), ",": _form(f".{_SPACES}", ",")}
_GROUPED = r"^\s*[-+]?[1-9][0-9]{0,2}\.[0-9]{3}\s*$"
_SWITCHES = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})


@dataclass(frozen=True)
class WrittenNumbers:
    """Numbers made of the texts of a column.

    Args:
        values: The numbers.
        sql: The SQL expression that makes them, with `{}` in place of the quoted column.
    """

    values: pa.Array
    sql: str


def decimal_marks(values: pa.StringArray) -> tuple[str, ...]:
    """Return the decimal marks, `.` and `,`, with which all texts of a column are numbers.

    Args:
        values: The texts, null where missing.
    """
    distinct = [text for text in pc.unique(values).to_pylist() if text is not None]
    return tuple(mark for mark, form in _FORMS.items() if distinct and all(map(form.fullmatch, distinct)))


def find_written_numbers(values: pa.StringArray, *, comma_first: bool) -> WrittenNumbers | None:
    """Return the numbers that all texts of a column are; None if one is not a number.

    Args:
        values: The texts, null where missing.
        comma_first: Whether `1,234` is read as 1.234, as in files that separate fields by semicolons.
    """
    marks = decimal_marks(values)
    if not marks:
        return None
    return _convert(values, marks[-1] if comma_first else marks[0])


def holds_grouped_numbers(values: pa.StringArray) -> bool:
    """Return whether all points in a column of numbers may separate thousands, as in 343 and 62.503."""
    with_point = values.filter(pc.fill_null(pc.match_substring(values, "."), False))
    return bool(len(with_point)) and bool(pc.all(pc.match_substring_regex(with_point, _GROUPED)).as_py())


def _convert(values: pa.StringArray, mark: str) -> WrittenNumbers:
    plain, sql = values, "{}"
    if pc.any(pc.match_substring(values, "(")).as_py():
        plain, sql = pc.replace_substring(plain, "(", "-"), "replace({}, '(', '-')"
    kept = f"[^0-9{mark}+-]"
    plain, sql = pc.replace_substring_regex(plain, kept, ""), f"regexp_replace({sql}, '{kept}', '')"
    if mark == ",":
        plain, sql = pc.replace_substring(plain, ",", "."), f"replace({sql}, ',', '.')"
    return WrittenNumbers(pc.utf8_ltrim(plain, "+").cast(pa.float64()), f"CAST({sql} AS DOUBLE)")


def is_switch(values: pa.StringArray) -> bool:
    """Return whether a column holds words for true and false in several spellings, such as `Yes`, `yes` and `NO`."""
    distinct = {text for text in pc.unique(values).to_pylist() if text is not None}
    return len(distinct) > 2 and any({text.lower() for text in distinct} == words for words in _SWITCHES)
