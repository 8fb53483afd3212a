"""Texts that represent a missing value."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from farandole.ingest.readers.lossless_types import NUMBER, find_spellings

ALWAYS = ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "#NA", "<NA>", "\\N", "?")
"""Texts that are missing values in columns of text, too."""
AMONG_NUMBERS = (
    *ALWAYS,
    "-",
    "--",
    ".",
    "..",
    "None",
    "none",
    "nil",
    "NONE",
    "na",
    "missing",
    "Missing",
    "MISSING",
    "#DIV/0!",
    "inf",
    "-inf",
    "Inf",
    "-Inf",
)
"""Texts that are missing values where all others are numbers, times or booleans."""
_SENTINEL = re.compile(r"-9{2,5}(\.0+)?")
_CODES = re.compile(r"[A-Z]{2}")
_LEAST_CODES = 30


def find_null_values(texts: Mapping[str, pa.StringArray]) -> tuple[str, ...]:
    """Find the texts that represent a missing value, in the order in which columns have them.

    Args:
        texts: Column to its values, null where the field is empty.
    """
    known = pa.array(AMONG_NUMBERS, pa.string())  # the first array imports pandas, which takes a second
    found: dict[str, None] = {}
    for values in texts.values():
        present = pc.unique(values.filter(pc.is_in(values, value_set=known))).to_pylist()
        if not present:
            continue
        rest = _without(values, present)
        if find_spellings(rest):
            found.update(dict.fromkeys(present))
        elif not _are_codes(rest):
            found.update(dict.fromkeys(text for text in present if text in ALWAYS))
    found.update(dict.fromkeys(_sentinels(texts, tuple(found))))
    return tuple(found)


def without_nulls(values: pa.StringArray, null_values: tuple[str, ...]) -> pa.StringArray:
    """Return the values, null where they are one of the texts."""
    return _without(values, null_values) if null_values else values


def _without(values: pa.StringArray, nulls: list[str] | tuple[str, ...]) -> pa.StringArray:
    is_null = pc.is_in(values, value_set=pa.array(nulls, pa.string()))
    return pc.if_else(is_null, pa.scalar(None, pa.string()), values)


def _are_codes(values: pa.StringArray) -> bool:
    """Return whether a column holds codes of two capital letters, of which `NA` is Namibia's."""
    distinct = [text for text in pc.unique(values).to_pylist() if text is not None]
    return len(distinct) >= _LEAST_CODES and all(_CODES.fullmatch(text) for text in distinct)


def _sentinels(texts: Mapping[str, pa.StringArray], nulls: tuple[str, ...]) -> list[str]:
    """Return numbers such as -999 that mark missing values: in each column that has them, all others are far away."""
    verdicts: dict[str, bool] = {}
    for values in texts.values():
        begun = values.filter(pc.fill_null(pc.starts_with(values, "-9"), False))
        candidates = [text for text in pc.unique(begun).to_pylist() if _SENTINEL.fullmatch(text)]
        for text in candidates if len(candidates) < 3 else []:
            rest = _without(values, [*nulls, *candidates])
            far = False
            if NUMBER in (find_spellings(rest) or ()):
                numbers = pc.ascii_trim(rest, " \t").cast(pa.float64())
                far = pc.min(numbers).as_py() >= -abs(float(text)) / 10
            verdicts[text] = verdicts.get(text, True) and far
    return [text for text, far in verdicts.items() if far]
