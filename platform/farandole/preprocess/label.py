"""The label: a class as its index in a sorted list, or a number."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.preprocess.values import as_numbers, as_text
from farandole.shards import LabelColumn
from farandole.spec import Label

_SHOWN = 20
"""The number of classes that an error lists."""


@dataclass(frozen=True)
class ClassLabel:
    """A class, as its index in `classes`."""

    spec: Label
    classes: tuple[str, ...] | None = None

    @property
    def column(self) -> str:
        """The raw column."""
        return self.spec.column

    @property
    def fitted(self) -> bool:
        """True once nothing is left to learn."""
        return self.classes is not None

    @property
    def schema(self) -> LabelColumn:
        """The column in the dataset."""
        return LabelColumn(kind=self.spec.kind, column=self.column, classes=self.classes or ())

    def observe(self, values: pa.Array) -> pa.StringArray:
        """Return the values to count.

        Raises:
            DataError: A label is missing.
        """
        return self._text(values)

    def learn(self, counts: Counter[str]) -> ClassLabel:
        """Return the label with its classes.

        Raises:
            DataError: The training split has only one class, or more than two for a binary label.
        """
        # Integers are sorted as numbers: class 10 comes after class 9.
        classes = sorted(
            counts, key=lambda value: (not _is_integer(value), int(value) if _is_integer(value) else 0, value)
        )
        origin = f"label: column {self.column}"
        if len(classes) < 2:
            found = f"all {sum(counts.values())} training rows are {classes[0]!r}" if classes else "no training rows"
            raise DataError(
                f"{origin}: {found}; a {self.spec.kind} label needs two classes: fix the query or the label"
            )
        if self.spec.kind == "binary":
            classes = self._binary(origin, classes)
        return replace(self, classes=tuple(classes))

    def _binary(self, origin: str, classes: list[str]) -> list[str]:
        """Order the two classes so that the positive one is last."""
        if len(classes) > 2:
            shown = ", ".join(classes[:_SHOWN]) + (", …" if len(classes) > _SHOWN else "")
            raise DataError(
                f"{origin}: {len(classes)} values ({shown}); a binary label has two: use `kind: multiclass`, or compare"
                " in the query"
            )
        positive = self.spec.positive
        if positive is not None:
            text = str(positive).lower() if isinstance(positive, bool) else str(positive)
            if text not in classes:
                raise DataError(f"{origin}: positive {text!r} does not occur; the values are {', '.join(classes)}")
            classes = sorted(classes, key=lambda value: value == text)
        return classes

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return class indices, int32 `[rows]`.

        Raises:
            DataError: A label is missing, or is a class that does not occur in the training split.
        """
        assert self.classes is not None, "the label is not fitted"
        text = self._text(values)
        indices = pc.index_in(text, value_set=pa.array(self.classes, pa.string()))
        if indices.null_count:
            value = text.filter(pc.is_null(indices))[0].as_py()
            raise DataError(
                f"label: column {self.column}: the class {value!r} occurs, but not in any training row; add rows of the"
                " rare class, or filter it out in the query"
            )
        return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int32)

    def _text(self, values: pa.Array) -> pa.StringArray:
        text = as_text(self.column, values)
        _reject_missing(self.column, text.null_count, len(text))
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the label as plain data, for the manifest."""
        return {"spec": self.spec.model_dump(mode="json"), "classes": list(self.classes or ())}


@dataclass(frozen=True)
class NumberLabel:
    """A number to predict, unchanged."""

    spec: Label

    fitted = True

    @property
    def column(self) -> str:
        """The raw column."""
        return self.spec.column

    @property
    def schema(self) -> LabelColumn:
        """The column in the dataset."""
        return LabelColumn(kind="regression", column=self.column)

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return float32 `[rows]`.

        Raises:
            DataError: A label is missing or not finite.
        """
        numbers = as_numbers(self.column, values)
        _reject_missing(self.column, int(np.isnan(numbers).sum()), len(numbers))
        with np.errstate(over="ignore"):
            labels = numbers.astype(np.float32)
        if not np.isfinite(labels).all():
            value = numbers[~np.isfinite(labels)][0]
            raise DataError(
                f"label: column {self.column}: {value:g} is not a finite float32; filter it out in the query"
            )
        return labels

    def to_dict(self) -> dict[str, Any]:
        """Return the label as plain data, for the manifest."""
        return {"spec": self.spec.model_dump(mode="json"), "classes": []}


def label_from_spec(spec: Label) -> ClassLabel | NumberLabel:
    """Return the declared label, not fitted."""
    return NumberLabel(spec) if spec.kind == "regression" else ClassLabel(spec)


def label_from_dict(data: dict[str, Any]) -> ClassLabel | NumberLabel:
    """Restore a fitted label from the result of `to_dict`."""
    spec = Label.model_validate(data["spec"])
    return NumberLabel(spec) if spec.kind == "regression" else ClassLabel(spec, tuple(data["classes"]))


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text, re.ASCII) is not None


def _reject_missing(column: str, missing: int, rows: int) -> None:
    if missing:
        raise DataError(
            f"label: column {column}: {missing} of a batch of {rows} rows have no label; filter them out in the query:"
            f" WHERE {column} IS NOT NULL"
        )
