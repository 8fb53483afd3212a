from __future__ import annotations

import pytest

from farandole.serving.query import UntranslatableError
from farandole.serving.query.patterns import check_pattern, like_pattern, matches_empty, time_pattern


@pytest.mark.parametrize(
    "pattern", ["abc", "^a[0-9]+", "(a|b)*c", r"\d{2,3}\.", "[^a-z]?x", "a+?b", "", "(?:ab){2}" * 0]
)
def test_common_patterns_are_kept(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


def test_the_end_becomes_the_end_before_a_last_line_break() -> None:
    assert check_pattern("x$").startswith("x(?:")
    assert check_pattern("x$").endswith("\\z")


@pytest.mark.parametrize(
    "pattern",
    ["a.b", "(?i)a", "(?=a)b", r"\s", r"(a)\1", "a*+", "a|b$", "[a&&b]", "(", r"\bword", "a^b", "[[:alpha:]]"],
)
def test_parts_that_differ_between_java_and_re2_are_refused(pattern: str) -> None:
    with pytest.raises(UntranslatableError):
        check_pattern(pattern)


def test_patterns_that_match_nothing_are_found() -> None:
    assert matches_empty("a*")
    assert not matches_empty("a+")


def test_escapes_of_like_are_refused() -> None:
    assert like_pattern("a_b%") == "a_b%"
    with pytest.raises(UntranslatableError, match="escape"):
        like_pattern(r"a\%")


def test_patterns_of_times() -> None:
    assert time_pattern("%Y-%mstrict-%dstrict %Hstrict") == "%Y-%m-%d %H"
    assert time_pattern("%Y") == "%Y"
    with pytest.raises(UntranslatableError):
        time_pattern("%A")
