"""The pattern that the dates of a file are written in, where it is not ISO 8601."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from farandole.preprocess.text_types import convert_text
from farandole.spec import time_regex

_DATES = (
    "M/d/yyyy",
    "d/M/yyyy",
    "yyyy/M/d",
    "d.M.yyyy",
    "d-M-yyyy",
    "M-d-yyyy",
    "d-MMM-yyyy",
    "d MMM yyyy",
    "d MMMM yyyy",
    "MMM d, yyyy",
    "MMMM d, yyyy",
    "MMM d yyyy",
    "M/d/yy",
    "d/M/yy",
    "d.M.yy",
    "d-MMM-yy",
)
_TIMES = ("H:mm", "H:mm:ss", "h:mm a", "h:mm:ss a", "H:mm:ss.SSS")
_PATTERNS = {
    "date": _DATES,
    "timestamp": tuple(f"{date}{between}{time}" for date in _DATES for between in (" ", "'T'") for time in _TIMES),
}
_ISO_START = re.compile(r"[ \t]*[0-9]{4}-[0-9]{1,2}-[0-9]")
_SAMPLE = 50
"""The number of distinct values that decide which patterns are tried on the whole column."""


@dataclass(frozen=True)
class TimePatterns:
    """The patterns of a file: the preparation has one for all dates of a source and one for all timestamps.

    Args:
        patterns: `date` and `timestamp` to the pattern.
        columns: Column to its type, of those that are written in one of the patterns.
        ambiguous: The columns that another pattern fits as well, such as those whose days are all below 13.
        others: The columns that hold times in yet another pattern: column to its type and this pattern.
    """

    patterns: Mapping[str, str]
    columns: Mapping[str, str]
    ambiguous: tuple[str, ...] = ()
    others: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def find_time_patterns(texts: Mapping[str, pa.StringArray]) -> TimePatterns:
    """Find the columns of text that hold times.

    Args:
        texts: Column to its values, of the columns that fit no other type.
    """
    fitting: dict[str, dict[str, list[str]]] = {"date": {}, "timestamp": {}}
    for column, values in texts.items():
        for kind, known in _PATTERNS.items():
            found = _fitting_patterns(values, kind, known)
            if found:
                fitting[kind][column] = found
                break
    patterns: dict[str, str] = {}
    columns: dict[str, str] = {}
    ambiguous: list[str] = []
    others: dict[str, tuple[str, str]] = {}
    for kind, found_of in fitting.items():
        votes = Counter(pattern for found in found_of.values() for pattern in found)
        if not votes:
            continue
        order = list(_PATTERNS[kind])
        patterns[kind] = max(votes, key=lambda pattern: (votes[pattern], -order.index(pattern)))
        for column, found in found_of.items():
            if patterns[kind] in found:
                columns[column] = kind
            else:
                others[column] = kind, found[0]
            ambiguous += [column] if len(found) > 1 else []
    return TimePatterns(patterns, columns, tuple(ambiguous), others)


def is_iso_time(values: pa.StringArray) -> bool:
    """Return whether all values are times of ISO 8601, perhaps in several forms: `2013-1-5`, `2013-01-05 10:00+02`."""
    distinct = pc.unique(values).drop_null()
    if not len(distinct) or not _ISO_START.match(distinct[0].as_py()):
        return False
    return all(convert_text(part, "timestamp")[1] is None for part in (distinct.slice(0, _SAMPLE), distinct))


def _fitting_patterns(values: pa.StringArray, kind: str, known: tuple[str, ...]) -> list[str]:
    """Return the patterns that all values are written in."""
    distinct = pc.unique(values).drop_null()
    if not len(distinct):
        return []
    some = [text.strip(" \t") for text in distinct.slice(0, _SAMPLE).to_pylist()]
    if not any(character.isdigit() for character in some[0]) or len(some[0]) > 40:
        return []
    likely = [pattern for pattern in known if all(time_regex(pattern).fullmatch(text) for text in some)]
    return [pattern for pattern in likely if convert_text(distinct, kind, pattern)[1] is None]
