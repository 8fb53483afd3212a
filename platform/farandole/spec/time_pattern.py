"""Patterns of dates and times as Spark and Java write them (`yyyy-MM-dd HH:mm`), made into regular expressions.

What a letter means is told by https://spark.apache.org/docs/latest/sql-ref-datetime-pattern.html; of them, those
that name a point in time are known here.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_FULL_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_OFFSET = r"(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)"
_PARTS = {
    **dict.fromkeys(("yyyy", "uuuu", "y", "u"), r"(?P<year>\d{4})"),
    **dict.fromkeys(("yy", "uu"), r"(?P<short_year>\d{2})"),
    "MMMM": f"(?P<month_name>{_FULL_MONTHS})",
    "MMM": f"(?P<month_name>{'|'.join(MONTHS)})",
    "EEEE": f"(?:{_FULL_DAYS})",
    **dict.fromkeys(("E", "EE", "EEE"), "(?:mon|tue|wed|thu|fri|sat|sun)"),
    "a": "(?P<half>am|pm)",
    **dict.fromkeys(("X", "XX", "XXX", "x", "xx", "xxx", "Z"), _OFFSET),
}
_NUMBERS = {"M": "month", "d": "day", "H": "hour", "h": "hour12", "m": "minute", "s": "second"}
_TOKEN = re.compile(
    r"'(?P<literal>(?:[^']|'')*)'|(?P<letters>([A-Za-z])\3*)|(?P<bracket>[\[\]])|(?P<sign>.)", re.DOTALL
)


def time_regex(pattern: str) -> re.Pattern[str]:
    """The expression that matches whole texts written in `pattern`, with the groups year, month, day, hour, ….

    Raises:
        ValueError: A letter has no meaning here, or the pattern names no day.
    """
    parts = [_regex_of(match) for match in _TOKEN.finditer(pattern)]
    try:
        found = re.compile("".join(parts), re.IGNORECASE | re.ASCII)
    except re.error as error:
        raise ValueError(
            f"not a pattern of a time ({error}); each part may occur once, and brackets come in pairs"
        ) from None
    if not {"year", "short_year"} & set(found.groupindex) or not {"month", "month_name"} & set(found.groupindex):
        raise ValueError("a pattern without a year and a month names no point in time")
    return found


def _regex_of(token: re.Match[str]) -> str:
    if token["literal"] is not None:
        return re.escape(token["literal"].replace("''", "'") or "'")
    if token["bracket"]:
        return "(?:" if token["bracket"] == "[" else ")?"
    if token["sign"]:
        return re.escape(token["sign"])
    letters = token["letters"]
    if letters in _PARTS:
        return _PARTS[letters]
    if letters[0] == "S" and len(letters) <= 9:
        return rf"(?P<fraction>\d{{{len(letters)}}})"
    if letters[0] in _NUMBERS and len(letters) <= 2:
        return rf"(?P<{_NUMBERS[letters[0]]}>\d{{{'2' if len(letters) == 2 else '1,2'}}})"
    raise ValueError(
        f"`{letters}` is not known in a pattern; use yyyy, MM, dd, HH, mm, ss, SSS, MMM, a, XXX and 'text'"
    )


def _checked(pattern: str) -> str:
    time_regex(pattern)
    return pattern


TimePattern = Annotated[str, AfterValidator(_checked)]
"""A pattern in Spark's letters."""
