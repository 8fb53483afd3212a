from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from farandole.spec import time_regex
from farandole.spec.time_pattern import TimePattern


@pytest.mark.parametrize(
    ("pattern", "text", "groups"),
    [
        ("yyyy-MM-dd", "2013-01-31", {"year": "2013", "month": "01", "day": "31"}),
        ("d.M.yy", "3.12.99", {"short_year": "99", "month": "12", "day": "3"}),
        ("dd MMM yyyy hh:mm a", "05 Feb 2013 09:07 PM", {"month_name": "Feb", "hour12": "09", "half": "PM"}),
        ("yyyy-MM-dd'T'HH:mm:ss[.SSS]XXX", "2013-01-31T05:06:07+02:00", {"zone": "+02:00", "fraction": None}),
        ("yyyy-MM-dd'T'HH:mm:ss[.SSS]XXX", "2013-01-31T05:06:07.250Z", {"zone": "Z", "fraction": "250"}),
        ("EEE, d MMMM yyyy 'o''clock'", "Thu, 3 January 2013 o'clock", {"day": "3", "month_name": "January"}),
    ],
)
def test_pattern_matches_whole_texts(pattern: str, text: str, groups: dict[str, str | None]) -> None:
    match = time_regex(pattern).fullmatch(text)
    assert match is not None
    assert groups.items() <= match.groupdict().items()
    assert time_regex(pattern).fullmatch(text + "x") is None


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("yyyy-MM-dd QQ", "`QQ` is not supported in a pattern; use yyyy, MM"),
        ("HH:mm", "a pattern without a year and a month does not name a point in time"),
        ("yyyy-MM-dd MM", "not a time pattern"),
        ("yyyy-MM[-dd", "not a time pattern .* brackets must be balanced"),
    ],
)
def test_invalid_pattern_is_rejected(pattern: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(TimePattern).validate_python(pattern)
