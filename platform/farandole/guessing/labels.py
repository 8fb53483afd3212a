"""Which column is the label, and of which kind it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from farandole.errors import DataError, closest_match
from farandole.events import format_count
from farandole.guessing.columns import Column
from farandole.guessing.features import has_id_name, is_row_number, name_problem

_NAMES = tuple(
    line.split()
    for line in (
        "target label y class outcome response output",
        "churn survived default diagnosis fraud attrition deny approved purchase",
        "status species quality result income price sales salary wage wages medv",
        "value score rating amount cost mpg tip delay duration",
    )
)
"""Words in the names of labels, the most certain first."""
_POSITIVE = (
    "yes",
    "y",
    "true",
    "t",
    "1",
    "positive",
    "pos",
    "bad",
    "default",
    "churned",
    "fraud",
    "malignant",
    "m",
    "died",
)
_MAX_INTEGERS = 20
_FEW_INTEGERS = 10
_MAX_GAPPED = 4
"""Whole numbers that leave gaps, such as 4, 6 and 8 cylinders, are classes up to this many."""
_MAX_CLASSES = 200
LEAST_ROWS = 20
"""The number of rows that a first model needs."""
_LEAST_ROWS_OF_CLASS = 5
"""A class with fewer rows may be missing from the training split."""
_MAX_ALTERNATIVES = 5


@dataclass(frozen=True)
class LabelGuess:
    """The label.

    Args:
        column: The column.
        kind: `binary`, `multiclass` or `regression`.
        reason: Why of this kind.
        spec: The label as the job file says it.
        missing: Rows without a label.
        rare: Classes with too few rows to learn, which are left out, and their rows.
        alternatives: Other columns that could be the label, where nobody named it.
    """

    column: str
    kind: str
    reason: str
    spec: dict[str, Any]
    missing: int = 0
    rare: Mapping[Any, int] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()


def find_label(columns: Sequence[Column]) -> tuple[str, tuple[str, ...]]:
    """Return the column that is probably the label, and the next best ones.

    Raises:
        DataError: No column can be a label.
    """
    ranked = sorted(
        (column for column in columns if _can_be_label(column)),
        key=lambda column: (_rank_of_name(column), -columns.index(column)),
    )
    if not ranked and columns and columns[0].rows < LEAST_ROWS:
        rows = format_count(columns[0].rows, "row")
        raise DataError(f"{rows}: too few to train, to validate and to test; give at least {LEAST_ROWS}")
    if not ranked:
        shown = ", ".join(column.name for column in columns[:12])
        raise DataError(f"none of the columns ({shown}) can be a label; name one with --label")
    names = [column.name for column in ranked]
    return names[0], tuple(names[1 : 1 + _MAX_ALTERNATIVES])


def guess_label(columns: Sequence[Column], wanted: str | None = None, kind: str | None = None) -> LabelGuess:
    """Return the label and its kind.

    Args:
        columns: All columns.
        wanted: The label's column. Default: the most likely one.
        kind: The label's kind. Default: by its values.

    Raises:
        DataError: There is no such column, or its values cannot be a label of this kind.
    """
    alternatives: tuple[str, ...] = ()
    if wanted is None:
        wanted, alternatives = find_label(columns)
    column = next((column for column in columns if column.name == wanted), None)
    if column is None:
        known = [column.name for column in columns]
        close = closest_match(wanted, known)
        hint = f"did you mean {close}?" if close else f"they are {', '.join(known[:12])}"
        raise DataError(f"--label {wanted}: there is no such column; {hint}")
    if problem := name_problem(column):
        raise DataError(f"--label {column.name}: {problem}")
    if column.present < LEAST_ROWS:
        raise DataError(
            f"--label {column.name}: {column.present} rows have one, too few to train, to validate and to test; give at"
            f" least {LEAST_ROWS}"
        )
    found, reason = (kind, "as you said") if kind else label_kind(column)
    _check_kind(column, found)
    rare = _rare_classes(column) if found != "regression" else {}
    if found == "binary" and rare:
        (value, rows), *_ = rare.items()
        raise DataError(
            f"--label {column.name}: the class {value!r} has {rows} rows, too few to train, to validate and to test;"
            " give more of them, or choose another label"
        )
    if found == "multiclass" and column.distinct - len(rare) < 2:
        raise DataError(
            f"--label {column.name}: fewer than two of its {column.distinct:,} values have {_LEAST_ROWS_OF_CLASS} rows;"
            " choose another label, or give more rows"
        )
    if rare:
        reason = f"{column.distinct - len(rare)} classes"
    spec: dict[str, Any] = {"column": column.name, "kind": found}
    positive = _positive(column) if found == "binary" else None
    if positive is not None:
        spec["positive"] = positive
    return LabelGuess(column.name, found, reason, spec, column.missing, rare, alternatives)


def label_kind(column: Column, origin: str | None = None) -> tuple[str, str]:
    """Return the kind of a label and the reason, from its values.

    Args:
        column: The label.
        origin: What names it, for errors. Default: the option `--label`.

    Raises:
        DataError: The column has one value, or texts that are neither classes nor numbers.
    """
    distinct = column.distinct
    origin = origin or f"--label {column.name}"
    if distinct < 2:
        raise DataError(
            f"{origin}: "
            + (f"every value is {column.top[0][0]!r}" if distinct else "all values are missing")
            + "; choose a column with different values"
        )
    if distinct == 2:
        return "binary", "two values: " + " and ".join(sorted(str(value) for value, _ in column.top))
    if column.kind == "text":
        if distinct > _MAX_CLASSES or distinct > 0.5 * column.present:
            raise DataError(
                f"{origin}: {distinct:,} different texts in {column.present:,} rows are neither classes"
                " nor numbers; choose another column"
            )
        return "multiclass", f"{distinct} classes"
    if column.kind in ("date", "timestamp", "bytes", "other"):
        raise DataError(f"{origin}: holds {column.values.type}, not numbers or classes; choose another column")
    if column.is_whole and _few_integers(column):
        return "multiclass", f"{distinct} different whole numbers"
    return "regression", f"{distinct:,} different numbers"


def _few_integers(column: Column) -> bool:
    """Return whether whole numbers are classes: few, and, if not very few, none of them rare as large counts are."""
    if column.distinct > _MAX_INTEGERS or column.present < 5 * column.distinct:
        return False
    values = [float(str(value)) for value, _ in column.top]
    if column.distinct > _MAX_GAPPED and max(values) - min(values) >= column.distinct:
        return False  # 0, 1, 2, 3, 7, 12 are counts
    rarest = min(count for _, count in column.top)
    return column.distinct <= _FEW_INTEGERS or rarest >= 0.01 * column.present


def _check_kind(column: Column, kind: str) -> None:
    if kind == "binary" and column.distinct != 2:
        raise DataError(f"--label {column.name}: has {column.distinct:,} different values; a binary label has two")
    if kind == "regression" and column.kind not in ("integer", "number", "boolean"):
        raise DataError(
            f"--label {column.name}: holds {column.kind}, and a regression predicts numbers; choose another"
        )


def _rare_classes(column: Column) -> dict[Any, int]:
    entries = column.counts.to_pylist()
    return {entry["values"]: entry["counts"] for entry in entries if entry["counts"] < _LEAST_ROWS_OF_CLASS}


def _positive(column: Column) -> str | None:
    """Return the class whose probability is predicted, where its name says so and it is not the greater one."""
    values = sorted(str(value) for value, _ in column.top)
    if column.kind != "text":
        return None
    named = [value for value in values if value.lower() in _POSITIVE]
    return named[0] if len(named) == 1 else values[-1]


def _can_be_label(column: Column) -> bool:
    if column.distinct < 2 or column.missing > 0.5 * column.rows or is_row_number(column) or has_id_name(column):
        return False
    if name_problem(column):
        return False
    try:
        label_kind(column)
    except DataError:
        return False
    return True


def _rank_of_name(column: Column) -> int:
    words = set(column.name_words)
    for rank, names in enumerate(_NAMES):
        if "".join(column.name_words) in names or words & set(names):
            return rank
    return len(_NAMES)


def class_indices(column: Column) -> np.ndarray:
    """Return the index of each row's class, -1 where it is missing, int64 `[rows]`."""
    encoded = column.values.dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
