"""Search of a text for candidates of a kind of personal data, so that a number beside another one is not missed.

A pattern is greedy: in `room 12 4111 1111 1111 1111` it takes the room for the start of the card. So whatever a pattern
finds and a check rejects is searched again, from its second character; and numbers in groups, as of cards, are tried in
all the windows that begin and end with a group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

Check = Callable[[str], bool | None]
"""Checks what a pattern found: True, False (for example wrong check digits), or None if it is not a candidate."""

Span = tuple[int, int, str]
"""Start, end and token of a part of a text."""

_GROUPS = re.compile(r"[0-9]+(?:[ -][0-9]+)*")
"""Groups of digits, one character apart."""
_GROUP = re.compile(r"[0-9]+")
_USUAL = re.compile(
    r"[0-9]+"
    r"|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{2,4}(?:\1[0-9]{3})?"
    r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}"  # American Express, Diners Club
)
"""Notations of card numbers: without groups, or in the groups of the embossed number."""
_CARD_DIGITS = range(14, 20)
_MAX_DIGITS_BESIDE = 40
"""Maximum length of a series of digits in which each card-like part counts for detection. In a long series of numbers,
some part passes a check of one digit by chance."""


@dataclass(frozen=True)
class Candidate:
    """A part of a text that has the form of a kind of personal data.

    Args:
        start: Its start.
        end: Its end.
        is_valid: Whether it passes the check of its kind.
        counts: Whether detection counts it, apart from redaction.
    """

    start: int
    end: int
    is_valid: bool
    counts: bool = True


def scan(pattern: str, text: str, check: Check, extent: Callable[[str], int] = len) -> Iterator[Candidate]:
    """Yield the candidates that a pattern finds, also where they overlap, except inside of valid ones.

    Args:
        pattern: The pattern; its first group, if it has one, is what it finds.
        text: The text.
        check: The check of what it finds.
        extent: Returns how much of what it finds belongs to the candidate.
    """
    compiled = re.compile(pattern, re.ASCII)  # as Arrow reads \b and \s
    position = 0
    while (match := compiled.search(text, position)) is not None:
        found = match[min(compiled.groups, 1)]
        start = match.start(min(compiled.groups, 1)) + len(found) - len(found.lstrip())
        found = found.strip()
        found = found[: extent(found)]
        is_valid = check(found)
        position = match.start() + 1
        if is_valid is not None:
            yield Candidate(start, start + len(found), is_valid)
        if is_valid:
            position = max(position, start + len(found))


def scan_cards(text: str, check: Check) -> Iterator[Candidate]:
    """Yield the candidates for card numbers, also where they overlap: windows of groups of digits.

    Args:
        text: The text.
        check: The check of a window.
    """
    for series in _GROUPS.finditer(text):
        groups = [match.span() for match in _GROUP.finditer(text, *series.span())]
        windows = list(_windows(groups))
        num_digits = sum(end - start for start, end in groups)
        side_by_side = set(_side_by_side(windows))
        for start, end in windows:
            is_valid = check(text[start:end])
            is_usual = _USUAL.fullmatch(text, start, end) is not None
            counts = (start, end) in side_by_side or (is_usual and num_digits <= _MAX_DIGITS_BESIDE)
            if is_valid or (is_valid is False and (is_usual or counts)):
                yield Candidate(start, end, is_valid, counts)


def _windows(groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield start and end of the windows of groups that have as many digits as a card, by start and then by end."""
    for index, (start, _) in enumerate(groups):
        digits = 0
        for first, end in groups[index:]:
            digits += end - first
            if digits > _CARD_DIGITS[-1]:
                break
            if digits in _CARD_DIGITS:
                yield start, end


def _side_by_side(windows: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the longest windows that follow each other without an overlap."""
    longest = dict(windows)  # by start, the last end
    last = 0
    for start, end in longest.items():
        if start >= last:
            yield start, end
            last = end


def replace_spans(text: str, spans: Iterable[Span]) -> str:
    """Replace parts of a text by their tokens; parts that overlap become one, with the token of the first in `spans`.

    Nothing of a part may stay: where a phone number seems to reach into a card number, both of them are replaced.
    """
    kept: list[Span] = []
    for start, end, token in spans:
        touched = [other for other in kept if start < other[1] and other[0] < end]
        if touched:
            start, end = min(start, *(other[0] for other in touched)), max(end, *(other[1] for other in touched))
            token = touched[0][2]
        kept = [other for other in kept if other not in touched]
        kept.append((start, end, token))
    for start, end, token in sorted(kept, reverse=True):
        text = text[:start] + token + text[end:]
    return text
