"""Numbers as people write them (`$1,234.50`, `12,5`, `7 %`) and words for true and false in several spellings."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

_SIGNS = r"[$€£¥₹%]|USD|EUR|GBP|CHF"
_BEFORE, _AFTER = rf"\s*(?:{_SIGNS})?\s*[-+]?\s*(?:{_SIGNS})?\s*", rf"\s*(?:{_SIGNS})?\s*"
_WITH_POINT = re.compile(rf"{_BEFORE}(\d{{1,3}}(,\d{{3}})+|\d+)(\.\d+)?{_AFTER}")
_WITH_COMMA = re.compile(rf"{_BEFORE}(\d{{1,3}}([. '\u00a0\u202f]\d{{3}})+|\d+)(,\d+)?{_AFTER}")
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


def find_written_numbers(values: pa.StringArray, *, comma_first: bool) -> WrittenNumbers | None:
    """Return the numbers that all texts of a column are; None if one is not a number.

    Args:
        values: The texts, null where missing.
        comma_first: Whether `1,234` is read as 1.234, as in files that separate fields by semicolons.
    """
    distinct = [text for text in pc.unique(values).to_pylist() if text is not None]
    if not distinct:
        return None
    forms = [(_WITH_COMMA, ","), (_WITH_POINT, ".")]
    for pattern, point in forms if comma_first else reversed(forms):
        if all(map(pattern.fullmatch, distinct)):
            return _convert(values, point)
    return None


def _convert(values: pa.StringArray, point: str) -> WrittenNumbers:
    kept = f"[^0-9{point}+-]"
    plain = pc.replace_substring_regex(values, kept, "")
    sql = f"regexp_replace({{}}, '{kept}', '')"
    if point == ",":
        plain = pc.replace_substring(plain, ",", ".")
        sql = f"replace({sql}, ',', '.')"
    return WrittenNumbers(plain.cast(pa.float64()), f"CAST({sql} AS DOUBLE)")


def is_switch(values: pa.StringArray) -> bool:
    """Return whether a column holds words for true and false in several spellings, such as `Yes`, `yes` and `NO`."""
    distinct = {text for text in pc.unique(values).to_pylist() if text is not None}
    return len(distinct) > 2 and any({text.lower() for text in distinct} == words for words in _SWITCHES)
