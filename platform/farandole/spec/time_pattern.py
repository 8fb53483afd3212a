"""Date and time patterns in the notation of Spark and Java (`yyyy-MM-dd HH:mm`), translated to regular expressions.

See https://spark.apache.org/docs/latest/sql-ref-datetime-pattern.html for the meaning of the letters; those that are
needed to name a point in time are supported.
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
    r"'(?P<literal>(?:[^']|'')*)'|(?P<letters>([A-Za-z])\3*)|(?P<bracket>[\[\]])|(?P<character>.)", re.DOTALL
)


def time_regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression that matches whole texts written in `pattern`.

    Its named groups are year, month, day, hour, ….

    Raises:
        ValueError: A letter is not supported, or the pattern has no year and month.
    """
    parts = [_regex_of(match) for match in _TOKEN.finditer(pattern)]
    try:
        regex = re.compile("".join(parts), re.IGNORECASE | re.ASCII)
    except re.error as error:
        raise ValueError(
            f"not a time pattern ({error}); each part may occur once, and brackets must be balanced"
        ) from None
    if not {"year", "short_year"} & set(regex.groupindex) or not {"month", "month_name"} & set(regex.groupindex):
        raise ValueError("a pattern without a year and a month does not name a point in time")
    return regex


def _regex_of(token: re.Match[str]) -> str:
    if token["literal"] is not None:
        return re.escape(token["literal"].replace("''", "'") or "'")
    if token["bracket"]:
        return "(?:" if token["bracket"] == "[" else ")?"
    if token["character"]:
        return re.escape(token["character"])
    letters = token["letters"]
    if letters in _PARTS:
        return _PARTS[letters]
    if letters[0] == "S" and len(letters) <= 9:
        return rf"(?P<fraction>\d{{{len(letters)}}})"
    if letters[0] in _NUMBERS and len(letters) <= 2:
        return rf"(?P<{_NUMBERS[letters[0]]}>\d{{{'2' if len(letters) == 2 else '1,2'}}})"
    raise ValueError(
        f"`{letters}` is not supported in a pattern; use yyyy, MM, dd, HH, mm, ss, SSS, MMM, a, XXX and 'text'"
    )


def _check(pattern: str) -> str:
    time_regex(pattern)
    return pattern


TimePattern = Annotated[str, AfterValidator(_check)]
"""A pattern in Spark's notation."""
