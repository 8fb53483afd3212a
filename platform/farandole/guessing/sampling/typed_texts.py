"""Columns of text, converted to the types that they fit: by the types of the source, or by the query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from farandole.events import format_count
from farandole.guessing.columns import Column
from farandole.guessing.queries import quote_name, quote_value, quote_values
from farandole.guessing.sampling.decimal_marks import find_decimal_marks
from farandole.guessing.sampling.nulls import NullValues, find_null_values
from farandole.guessing.sampling.times import find_time_patterns, is_iso_time
from farandole.guessing.sampling.written_numbers import find_written_numbers, is_switch
from farandole.ingest.readers.lossless_types import NUMBER, choose_type, find_spellings
from farandole.preprocess.text_types import convert_text

_NO_PATTERNS: Mapping[str, str | None] = {}
_Time = tuple[str, str | None]
"""The type of a column, and the pattern of its times."""


@dataclass
class TypedTexts:
    """Columns of text after their conversion.

    Args:
        columns: The columns, typed.
        types: Column to the SQL type that the source declares.
        options: The options of the source: null values and patterns of times.
        conversions: Column to the SQL expression that converts what the source gives.
        notes: What a user should know.
        needs_types: Whether the types have to be declared, because without them the preparation finds others.
    """

    columns: list[Column] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    conversions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    needs_types: bool = False

    def add_typed(self, column: str, text: pa.StringArray, kind: str, pattern: str | None, sql: str) -> None:
        """Add a column of the type that its texts fit.

        Args:
            column: Its name.
            text: Its values.
            kind: The type.
            pattern: The pattern of its times; None: ISO 8601.
            sql: The SQL expression of its values.
        """
        self.columns.append(Column.from_values(column, convert_text(text, kind, pattern)[0]))
        is_declared = pattern is None or self.options.get(f"{kind}_format") == pattern
        if sql == quote_name(column) and is_declared:
            self.types[column] = kind
            return
        if pattern is not None:
            sql = f"to_{kind}({sql}, {quote_value(pattern)})"
        elif kind != "string":
            sql = f"CAST({sql} AS {kind.upper()})"
        self._add_conversion(column, sql)

    def add_numbers(self, column: str, text: pa.StringArray, sql: str, *, comma_first: bool) -> bool:
        """Add a column of numbers as people write them; return whether its texts are such numbers.

        Args:
            column: Its name.
            text: Its values.
            sql: The SQL expression of its values.
            comma_first: Whether `1,234` is read as 1.234.
        """
        written = find_written_numbers(text, comma_first=comma_first)
        if written is None or _holds_codes(text):
            return False
        self.columns.append(Column.from_values(column, written.values))
        self._add_conversion(column, written.sql.format(sql))
        return True

    def _add_conversion(self, column: str, sql: str) -> None:
        self.types[column] = "string"
        self.conversions[column] = sql


def type_texts(texts: Mapping[str, pa.StringArray], *, separator: str) -> TypedTexts:
    """Convert columns of text to the types that they fit.

    Args:
        texts: Column to its values, null where the field is empty.
        separator: The separator of the file's fields.
    """
    nulls = find_null_values(texts)
    values = {column: nulls.remove(column, text) for column, text in texts.items()}
    kinds = {column: lossless_type(text) for column, text in values.items()}
    kinds |= {column: "boolean" for column, kind in kinds.items() if kind == "string" and is_switch(values[column])}
    marks = find_decimal_marks(values, kinds, separator)
    kinds |= dict.fromkeys(marks.thousands, "string")
    typed = TypedTexts(notes=[*_describe_nulls(nulls), *marks.notes])
    typed.needs_types = bool(marks.thousands) or not nulls.sentinels.keys().isdisjoint(nulls.in_columns)
    if nulls.everywhere:
        typed.options["null_values"] = list(nulls.everywhere)
    times = _find_times(typed, values, kinds)
    for column, text in values.items():
        sql = quote_name(column)
        if column in nulls.in_columns:
            sql = f"IF({sql} IN ({quote_values(nulls.in_columns[column])}), NULL, {sql})"
        may_be_written = kinds[column] == "string" and column not in times
        if not may_be_written or not typed.add_numbers(column, text, sql, comma_first=marks.comma_first):
            typed.add_typed(column, text, *times.get(column, (kinds[column], None)), sql)
    return typed


def type_times(texts: Mapping[str, pa.StringArray]) -> TypedTexts:
    """Convert columns of text that hold times to their types; all others stay text.

    Args:
        texts: Column to its values, null where missing.
    """
    kinds = {column: lossless_type(text) for column, text in texts.items()}
    kinds = {column: kind if kind in ("date", "timestamp") else "string" for column, kind in kinds.items()}
    typed = TypedTexts()
    times = _find_times(typed, texts, kinds)
    for column, text in texts.items():
        typed.add_typed(column, text, *times.get(column, (kinds[column], None)), quote_name(column))
    return typed


def lossless_type(values: pa.StringArray, patterns: Mapping[str, str | None] = _NO_PATTERNS) -> str:
    """Return the type that keeps all texts; for numbers and times in other spellings, the one that a feature needs.

    Args:
        values: The texts.
        patterns: `date` and `timestamp` to the pattern that the source declares for them.
    """
    spellings = find_spellings(values, patterns)
    if spellings is None:
        return "string"
    kind = choose_type(spellings, "double" if NUMBER in spellings else None)
    return "timestamp" if kind == "string" and not patterns.get("timestamp") and is_iso_time(values) else kind


def _find_times(typed: TypedTexts, texts: Mapping[str, pa.StringArray], kinds: Mapping[str, str]) -> dict[str, _Time]:
    """Find the times among the columns of text; set the source's patterns, where no column in ISO 8601 forbids it."""
    found = find_time_patterns({column: text for column, text in texts.items() if kinds[column] == "string"})
    times: dict[str, _Time] = {column: (kind, found.patterns[kind]) for column, kind in found.columns.items()}
    times |= found.others
    iso = set(kinds.values())
    typed.options |= {f"{kind}_format": pattern for kind, pattern in found.patterns.items() if kind not in iso}
    for column in found.ambiguous:
        kind, pattern = times[column]
        where = f"{kind}_format" if typed.options.get(f"{kind}_format") == pattern else "the pattern in its query"
        typed.notes.append(f"{column}: read as {pattern}; where the day comes first, change {where}")
    return times


def _describe_nulls(nulls: NullValues) -> list[str]:
    return [
        f"{column}: {text} is read as missing ({format_count(rows, 'row')}); where it is a number, remove it from"
        f" {'the query' if text in nulls.in_columns.get(column, ()) else 'null_values'}"
        for column, found in nulls.sentinels.items()
        for text, rows in found.items()
    ]


def _holds_codes(values: pa.StringArray) -> bool:
    """Return whether texts are digits alone, which no type keeps: `00501`, or 20 digits."""
    return bool(pc.all(pc.match_substring_regex(values.drop_null(), r"^\s*[0-9]+\s*$")).as_py())
