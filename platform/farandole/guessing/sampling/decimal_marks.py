"""Meaning of points and commas in the numbers of a file: some separate thousands, and some fractions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from farandole.guessing.sampling.written_numbers import decimal_marks, find_written_numbers, holds_grouped_numbers


@dataclass
class DecimalMarks:
    """Meaning of points and commas in the numbers of a file.

    Args:
        comma_first: Whether `1,234` is read as 1.234.
        thousands: The columns of numbers such as 62.503 whose points separate thousands.
        notes: What a user should know about columns that can be read in two ways.
    """

    comma_first: bool
    thousands: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_decimal_marks(texts: Mapping[str, pa.StringArray], kinds: Mapping[str, str], separator: str) -> DecimalMarks:
    """Find out how points and commas are read: as other columns show it, else as is usual with the separator.

    Args:
        texts: Column to its values, null where missing.
        kinds: Column to the type that its texts fit.
        separator: The separator of the file's fields.
    """
    written = {column: decimal_marks(texts[column]) for column, kind in kinds.items() if kind == "string"}
    commas = (",",) in written.values()
    if separator == "," and not commas:
        return DecimalMarks(comma_first=False)  # as in most files, and nothing else is known
    doubles = [column for column, kind in kinds.items() if kind == "double"]
    grouped = [column for column in doubles if holds_grouped_numbers(texts[column])]
    fractions = [column for column in doubles if column not in grouped and _first_with(texts[column], ".")]
    points = (".",) in written.values() or bool(fractions)
    found = DecimalMarks(comma_first=commas or (separator == ";" and not points))
    for column in grouped:
        if commas or (found.comma_first and _holds_digits_alone(texts[column])):
            found.thousands.append(column)
    for column in (*grouped, *(column for column, marks in written.items() if len(marks) > 1)):
        note = _describe(column, texts[column], as_text=column not in grouped or column in found.thousands, marks=found)
        found.notes += [note] if note else []
    return found


def _describe(column: str, values: pa.StringArray, *, as_text: bool, marks: DecimalMarks) -> str | None:
    """Return a note on a column that can be read in two ways; None if both are the same."""
    example = _first_with(values, ".") or _first_with(values, ",")
    if example is None:
        return None
    if not as_text:
        return (
            f"{column}: {example} is read as a fraction; where its point separates thousands, remove it from the file"
        )
    written = find_written_numbers(pa.array([example]), comma_first=marks.comma_first)
    assert written is not None, "the whole column was read"
    (number,) = written.values.to_pylist()
    return f"{column}: {example} is read as {number:,.15g}; where that is wrong, change its line in the query"


def _first_with(values: pa.StringArray, mark: str) -> str | None:
    """Return the first text with a mark."""
    found = values.filter(pc.fill_null(pc.match_substring(values, mark), False))
    return str(found[0].as_py()).strip() if len(found) else None


def _holds_digits_alone(values: pa.StringArray) -> bool:
    """Return whether some numbers have no point: fractions with always three digits would have written it."""
    return bool(pc.any(pc.invert(pc.match_substring(values, "."))).as_py())
