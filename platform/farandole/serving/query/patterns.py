"""Patterns of texts and times whose meaning is the same in Spark (Java) and in DuckDB (RE2, strftime)."""

from __future__ import annotations

import re

from farandole.serving.query.translated import UntranslatableError

_ESCAPES = r"\\[dDwW.\\+*?()\[\]{}|^$/-]"
_CLASS = rf"\[\^?(?:{_ESCAPES}|[^\\\[\]&^])(?:{_ESCAPES}|[^\\\[\]&^])*\]"
_ATOM = rf"(?:{_ESCAPES}|{_CLASS}|[^\\\[\](){{}}*+?|^$.])"
_REPEAT = r"(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})?\??"
_TOKEN = re.compile(
    rf"{_ATOM}(?![*+?{{])|{_ATOM}(?:[*+?]|\{{\d{{1,3}}(?:,\d{{0,3}})?\}})\??(?![*+?{{])|[(](?:\?:)?|[)][*+?]?(?![*+?{{])|[|]"
)
"""Parts of a pattern: a character or a class, perhaps repeated; a group; an alternative."""
_TIME_PARTS = re.compile(r"%Y|%(?:m|d|H|M|S)strict|[^%A-Za-z]")


def check_pattern(pattern: str) -> str:
    r"""Return a pattern that Java and RE2 read in the same way.

    Anchors are allowed at its ends alone: Java's `$` also matches before a last line break, and so becomes a class of
    its own. A dot is refused, since Java's and RE2's exclude other line breaks, and so are look-around, references and
    flags, which RE2 lacks, and `\s`, which has a character more in Java.

    Raises:
        UntranslatableError: It has another part.
    """
    begin = "^" if pattern.startswith("^") else ""
    end = pattern.endswith("$") and not pattern.endswith("\\$")
    inner = pattern[len(begin) : len(pattern) - end]
    position, depth, alternatives = 0, 0, False
    while position < len(inner):
        token = _TOKEN.match(inner, position)
        if token is None:
            raise UntranslatableError(
                f"the pattern {pattern!r} has at {inner[position:][:10]!r} a part that Java and RE2 may read"
                " differently; use characters, classes such as [0-9], groups, | and repetitions"
            )
        position = token.end()
        depth += (token[0][0] == "(") - (token[0][0] == ")")
        alternatives = alternatives or (token[0] == "|" and not depth)
    if (begin or end) and alternatives:
        raise UntranslatableError(
            f"the pattern {pattern!r} has an anchor beside |; put a group around the alternatives"
        )
    try:
        re.compile(inner)
    except re.error as error:
        raise UntranslatableError(f"the pattern {pattern!r} is not valid ({error})") from None
    return begin + inner + ("(?:\\r\\n|[\\n\\r\\x{85}\\x{2028}\\x{2029}])?\\z" if end else "")


def matches_empty(pattern: str) -> bool:
    """Return whether a checked pattern matches an empty text."""
    return re.compile(pattern.replace("\\z", "\\Z").replace("\\x{85}\\x{2028}\\x{2029}", "")).match("") is not None


def like_pattern(pattern: str) -> str:
    """Return a pattern of LIKE that has the same meaning in both engines.

    Raises:
        UntranslatableError: It has an escape.
    """
    if "\\" in pattern:
        raise UntranslatableError(
            f"the pattern {pattern!r} of LIKE has an escape; use startswith, endswith or contains"
        )
    return pattern


def time_pattern(pattern: str) -> str:
    """Return the strftime pattern of `date_format`.

    Args:
        pattern: sqlglot's translation of Spark's pattern.

    Raises:
        UntranslatableError: It has other parts than yyyy, MM, dd, HH, mm, ss and punctuation.
    """
    if "".join(_TIME_PARTS.findall(pattern)) != pattern:
        raise UntranslatableError("the pattern of date_format has other parts than yyyy, MM, dd, HH, mm, ss")
    return pattern.replace("strict", "")
