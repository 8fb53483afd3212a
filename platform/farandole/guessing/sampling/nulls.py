"""Texts that represent a missing value."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from farandole.guessing.sampling.times import find_time_patterns, is_iso_time
from farandole.guessing.sampling.written_numbers import find_written_numbers
from farandole.ingest.readers.lossless_types import NUMBER, find_spellings

ALWAYS = ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "#NA", "<NA>", "\\N", "?")
"""Texts that are missing values in columns of text, too."""
AMONG_NUMBERS = (
    *("na", "n/a", "n.a.", "nan", "null", "#n/a", "#na", "<na>", "\\n", "?", "??"),
    *("-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "none", "nil", "missing", "unknown", "undefined"),
    *("#div/0!", "#value!", "#num!", "#ref!", "#null!", "inf", "-inf", "+inf", "infinity", "-infinity"),
)
"""Texts that are missing values where all others are numbers or times, in lower case."""
_SENTINEL = re.compile(r"-9{2,5}(\.0+)?")
_MAX_SENTINELS = 2
_CODES = re.compile(r"[A-Z]{2}")
_LEAST_CODES = 30


@dataclass(frozen=True)
class NullValues:
    """The texts of a file that represent a missing value.

    Args:
        everywhere: Those that are missing values in each column that has them, in the order in which columns do.
        in_columns: Column to those that are missing values in it, while another column has them as values.
        sentinels: Column to the numbers among them, such as -999, each with its rows.
    """

    everywhere: tuple[str, ...] = ()
    in_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sentinels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def remove(self, column: str, values: pa.StringArray) -> pa.StringArray:
        """Return the values of a column, null where they represent a missing one."""
        nulls = (*self.everywhere, *self.in_columns.get(column, ()))
        return _without(values, nulls)


def find_null_values(texts: Mapping[str, pa.StringArray]) -> NullValues:
    """Find the texts that represent a missing value.

    Args:
        texts: Column to its values, null where the field is empty.
    """
    known = pa.array(sorted(_spellings()), pa.string())  # the first array imports pandas, which takes a second
    holders: dict[str, list[str]] = {}
    missing: dict[str, list[str]] = {}
    for column, values in texts.items():
        words = pc.unique(values.filter(pc.is_in(values, value_set=known))).to_pylist()
        numbers = _possible_sentinels(values)
        rest = _without(values, words)
        if rest.null_count == len(rest):
            continue  # a column without other values does not say what these are
        missing[column] = [*_missing_words(words, rest), *_sentinels(numbers, rest)]
        for text in (*words, *numbers):
            holders.setdefault(text, []).append(column)
    everywhere = {text for text, columns in holders.items() if all(text in missing[column] for column in columns)}
    alone = {column: tuple(text for text in found if text not in everywhere) for column, found in missing.items()}
    sentinels = {column: [text for text in found if _SENTINEL.fullmatch(text)] for column, found in missing.items()}
    return NullValues(
        tuple(text for text in holders if text in everywhere),
        {column: found for column, found in alone.items() if found},
        {column: _count(texts[column], found) for column, found in sentinels.items() if found},
    )


@functools.cache
def _spellings() -> frozenset[str]:
    """Return the texts that may represent a missing value, in all cases and with spaces around them."""
    words = {*ALWAYS, *AMONG_NUMBERS, *map(str.upper, AMONG_NUMBERS), *map(str.capitalize, AMONG_NUMBERS)}
    return frozenset(f"{before}{word}{after}" for word in words for before in ("", " ") for after in ("", " "))


def _without(values: pa.StringArray, nulls: list[str] | tuple[str, ...]) -> pa.StringArray:
    if not nulls:
        return values
    is_null = pc.is_in(values, value_set=pa.array(nulls, pa.string()))
    return pc.if_else(is_null, pa.scalar(None, pa.string()), values)


def _missing_words(words: list[str], rest: pa.StringArray) -> list[str]:
    """Return which words represent missing values in a column, from its other values."""
    if not words or _holds_numbers(rest) or _holds_times(rest):
        return words
    return [] if _are_codes(rest) else [text for text in words if text.strip() in ALWAYS]


def _holds_numbers(values: pa.StringArray) -> bool:
    return NUMBER in (find_spellings(values) or ()) or find_written_numbers(values, comma_first=True) is not None


def _holds_times(values: pa.StringArray) -> bool:
    kinds = {spelling.partition(" ")[0] for spelling in find_spellings(values) or ()}
    return bool(kinds & {"date", "timestamp"} or is_iso_time(values) or find_time_patterns({"": values}).columns)


def _are_codes(values: pa.StringArray) -> bool:
    """Return whether a column holds codes of two capital letters, of which `NA` is Namibia's."""
    distinct = [text for text in pc.unique(values).to_pylist() if text is not None]
    return len(distinct) >= _LEAST_CODES and all(_CODES.fullmatch(text) for text in distinct)


def _possible_sentinels(values: pa.StringArray) -> list[str]:
    begun = values.filter(pc.fill_null(pc.starts_with(values, "-9"), False))
    return [text for text in pc.unique(begun).to_pylist() if _SENTINEL.fullmatch(text)]


def _sentinels(candidates: list[str], values: pa.StringArray) -> list[str]:
    """Return the numbers such as -999 that mark missing values, because all others in the column are far away.

    -99 is near enough to other negative numbers to be one of them.
    """
    if not candidates or len(candidates) > _MAX_SENTINELS:
        return []
    rest = _without(values, candidates)
    if rest.null_count == len(rest):
        return []
    if NUMBER in (find_spellings(rest) or ()):
        numbers = pc.ascii_trim(rest, " \t").cast(pa.float64())
    else:
        written = find_written_numbers(rest, comma_first=True)
        if written is None:
            return []
        numbers = written.values
    least = pc.min(numbers).as_py()
    return [text for text in candidates if least >= (0 if float(text) == -99 else float(text) / 10)]


def _count(values: pa.StringArray, texts: list[str]) -> dict[str, int]:
    return {text: int(pc.sum(pc.equal(values, text)).as_py()) for text in texts}
