"""Rows of files, and what the job file has to say so that the preparation reads them in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from farandole.guessing.columns import Column

SOURCE = "data"
"""The name of the source in the job file."""


@dataclass(frozen=True)
class Sample:
    """Rows of a source.

    Args:
        source: The source as a job file declares it, without its path.
        columns: The columns, in the order of the files.
        types: Column to SQL type, where the job file declares types.
        is_whole: Whether these are all rows.
        rows: The number of rows in all files, estimated if these are not all.
        notes: What a user should know about the files.
        conversions: Column to the SQL expression that makes the values that `columns` holds of those in the files.
        needs_types: Whether the job file has to declare the types: the files do not name their columns, or the
            preparation would find other types.
        unreadable: The columns that the preparation cannot read, each with the reason and the remedy.
    """

    source: dict[str, Any]
    columns: tuple[Column, ...]
    types: dict[str, str] | None
    is_whole: bool
    rows: int
    notes: tuple[str, ...] = ()
    conversions: Mapping[str, str] = field(default_factory=dict)
    needs_types: bool = False
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


def unnamed_columns(header: Sequence[str]) -> dict[str, str]:
    """Return the columns of a header that have no name, each with the reason why it is not read."""
    unnamed = (number for number, name in enumerate(header, 1) if not name)
    return {f"(column {number})": "has no name; write one into the first line to use it" for number in unnamed}
