"""Division of the rows: at random, by time, or so that the rows of one person or thing stay together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from farandole.guessing.columns import Column
from farandole.guessing.features import has_id_name, is_row_number
from farandole.guessing.labels import LabelGuess, class_indices

_SUBJECT_WORDS = """
    patient customer client user subject person member participant respondent household family student pupil player
    driver employee account session visitor device machine animal chick child author individual case borrower
    policyholder passenger card order
"""
_SUBJECTS = frozenset(_SUBJECT_WORDS.split())
"""Words for those whose rows resemble each other, so that a model that has seen one row knows the others."""
_MEASURE_WORDS = """
    per count counts total sum mean avg average max min age spend spent amount price cost income revenue sales balance
    score rate ratio share value days weeks months years hours minutes time since visits size weight height length
"""
_MEASURES = frozenset(_MEASURE_WORDS.split())
"""Words in the names of columns that measure something about a person or thing, and do not name it."""
_SMALL_ROWS = 400
_LEAST_GROUPS = 20
_LARGEST_GROUP = 0.1
_LEAST_TIMES = 50
_LARGEST_TIME = 0.02
_ORDERED = 0.98
_TRAIN_SHARE = 0.6
"""The share of rows that train at least."""


@dataclass(frozen=True)
class SplitGuess:
    """The split.

    Args:
        spec: The split as the job file says it.
        reason: Why, in a sentence without a full stop.
        group: The column that holds the groups.
        time: The column that orders the rows.
    """

    spec: dict[str, Any]
    reason: str
    group: str | None = None
    time: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the split needs."""
        return tuple(name for name in (self.group, self.time) if name is not None)


def guess_split(columns: Sequence[Column], label: LabelGuess) -> SplitGuess:
    """Return the split.

    Args:
        columns: All columns, with the rows in the order of the files.
        label: The label.
    """
    rows = columns[0].rows - label.missing
    shares = split_shares(rows)
    others = [column for column in columns if column.name != label.column]
    group = next((column for column in others if _is_group(column)), None)
    if group is not None:
        if group.distinct < 200:
            shares = split_shares(0)
        reason = f"{group.name} repeats ({group.distinct:,} in {group.rows:,} rows), and its rows stay together"
        return SplitGuess(shares | {"by": [group.name]}, reason, group=group.name)
    time = next((column for column in others if is_time_order(column) and _every_class_is_early(columns, label)), None)
    if time is not None:
        return SplitGuess(shares | {"time": time.name}, f"the rows are in the order of {time.name}", time=time.name)
    return SplitGuess(shares, "the rows have no order and no groups")


def split_shares(rows: int) -> dict[str, Any]:
    """Return the fractions of the splits: of few rows, more to measure with."""
    if rows < _SMALL_ROWS:
        return {"train": 0.6, "validation": 0.2, "test": 0.2}
    return {"train": 0.8, "validation": 0.1, "test": 0.1}


def _is_group(column: Column) -> bool:
    """Return whether a column names a person or thing that has several rows."""
    if column.kind not in ("text", "integer") or column.missing or is_row_number(column):
        return False
    words = column.name_words
    if not set(words) & _SUBJECTS or set(words) & _MEASURES:
        return False
    names_it = words[-1] in _SUBJECTS if column.kind == "text" else words[-1:] == words
    if not (has_id_name(column) or names_it):
        return False
    if not _LEAST_GROUPS <= column.distinct <= 0.7 * column.rows:
        return False
    return bool(column.top[0][1] <= _LARGEST_GROUP * column.rows)


def is_time_order(column: Column) -> bool:
    """Return whether a column of dates or timestamps orders the rows, up or down, and none of its times has many."""
    if column.kind not in ("date", "timestamp") or column.missing or column.distinct < _LEAST_TIMES:
        return False
    if column.top[0][1] > _LARGEST_TIME * column.rows:
        return False
    steps = np.diff(column.numbers)
    return bool(max((steps >= 0).mean(), (steps <= 0).mean()) >= _ORDERED)


def _every_class_is_early(columns: Sequence[Column], label: LabelGuess) -> bool:
    """Return whether the first rows and the last ones hold all classes: one that is new later cannot be learned."""
    if label.kind == "regression":
        return True
    classes = class_indices(next(column for column in columns if column.name == label.column))
    share = round(_TRAIN_SHARE * len(classes))
    wanted = set(np.unique(classes)) - {-1}
    return wanted <= set(np.unique(classes[:share])) and wanted <= set(np.unique(classes[-share:]))
