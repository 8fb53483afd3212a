"""The label: a class as its index in a sorted list, or a number."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.preprocess.summary import Summary
from farandole.preprocess.transform import ROUNDED, VALUES
from farandole.preprocess.values import as_numbers, as_text, rounded_integers, without_rounding
from farandole.shards import LabelColumn, LabelScale
from farandole.spec import Label

_SHOWN = 20
"""The number of classes that an error lists."""
_LOG = "log"
"""The measure of the logarithms of the labels."""


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

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return the values to count, by measure.

        Raises:
            DataError: A label is missing.
        """
        return {VALUES: self._text(values)}

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
    """A number to predict, scaled to mean 0 and deviation 1 in float64, before it becomes a float32.

    Args:
        spec: The declaration in the job file.
        scale: The learned scale; None: the number is not scaled, or nothing is learned yet.
        fitted: True once nothing is left to learn.
    """

    spec: Label
    scale: LabelScale | None = None
    fitted: bool = False

    @property
    def column(self) -> str:
        """The raw column."""
        return self.spec.column

    @property
    def schema(self) -> LabelColumn:
        """The column in the dataset."""
        return LabelColumn(kind="regression", column=self.column, scale=self.scale)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that `observe` returns."""
        return (VALUES, _LOG) if self.spec.transform == "log" else (VALUES,)

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return the numbers to summarise, by measure: the raw ones, and those to scale if they are others.

        Raises:
            DataError: A label is missing, or negative although its logarithm is wanted.
        """
        numbers = self._numbers(values)
        found: dict[str, np.ndarray | pa.Array] = {VALUES: numbers}
        if self.spec.transform == "log":
            found[_LOG] = np.log1p(numbers)
        rounded = rounded_integers(values)
        return found if rounded is None else {**found, ROUNDED: rounded}

    def learn(self, measurements: Mapping[str, Summary]) -> NumberLabel:
        """Return the label with its scale.

        Raises:
            DataError: The training split has no rows, infinite labels, or rows that all have the same label.
        """
        log = self.spec.transform == "log"
        summary = measurements.get(_LOG if log else VALUES, Summary())
        if summary.infinite:
            raise DataError(
                f"{self._origin}: {summary.infinite} of {summary.rows} training rows hold an infinite number (or one"
                " beyond 1e150); filter them out in the query"
            )
        if not summary.present:
            raise DataError(f"{self._origin}: no training rows; fix the query or the split")
        if summary.minimum == summary.maximum and summary.rows > 1:
            value = math.expm1(summary.minimum) if log else summary.minimum
            raise DataError(
                f"{self._origin}: all {summary.rows} training rows are {value:g}, so there is nothing to predict; fix"
                " the query or the label"
            )
        if self.spec.scale == "none":
            return replace(self, scale=LabelScale(log=True) if log else None, fitted=True)
        # Equal labels may have a deviation above 0 by rounding. They become 0, or nearly.
        constant = summary.minimum == summary.maximum or summary.deviation <= 0
        deviation = 1.0 if constant else summary.deviation
        return replace(self, scale=LabelScale(mean=summary.mean, deviation=deviation, log=log), fitted=True)

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return float32 `[rows]`.

        Raises:
            DataError: A label is missing, not finite, or negative although its logarithm is wanted.
        """
        assert self.fitted, "the label is not fitted"
        numbers = self._numbers(values)
        with np.errstate(over="ignore"):
            labels = (self.scale.apply(numbers) if self.scale else numbers).astype(np.float32)
        if not np.isfinite(labels).all():
            value = numbers[~np.isfinite(labels)][0]
            raise DataError(f"{self._origin}: {value:g} is not a finite float32; filter it out in the query")
        return labels

    def find_loss(self, summary: Summary) -> str | None:
        """Describe how many distinct labels are lost because shards hold float32; returns None if hardly any are.

        Args:
            summary: The summary of the raw labels of the training rows.
        """
        if not summary.counted:
            return None
        numbers = without_rounding(np.array(list(summary.counted)))
        stored = (self.scale.apply(numbers) if self.scale else numbers).astype(np.float32)
        distinct, left = len(numbers), len(np.unique(stored))
        if left >= distinct * (1.0 if self.scale is None else 0.99):
            return None
        remedy = "remove `scale: none`" if self.spec.scale == "none" else "set `transform: log`, or filter out extremes"
        return f"{self._origin}: {distinct:,} distinct labels of the training rows become {left:,} as float32; {remedy}"

    @property
    def _origin(self) -> str:
        return f"label: column {self.column}"

    def _numbers(self, values: pa.Array) -> np.ndarray:
        numbers = as_numbers(self.column, values)
        _reject_missing(self.column, int(np.isnan(numbers).sum()), len(numbers))
        if self.spec.transform == "log" and len(numbers) and numbers.min() < 0:
            raise DataError(
                f"{self._origin}: {int((numbers < 0).sum())} of a batch of {len(numbers)} rows are negative, such as"
                f" {numbers.min():g}, and `transform: log` needs labels of 0 or more; remove the transform, or filter"
                " the rows out in the query"
            )
        return numbers

    def to_dict(self) -> dict[str, Any]:
        """Return the label as plain data, for the manifest."""
        scale = self.scale.model_dump(mode="json") if self.scale else None
        return {"spec": self.spec.model_dump(mode="json"), "classes": [], "scale": scale}


def label_from_spec(spec: Label) -> ClassLabel | NumberLabel:
    """Return the declared label, not fitted."""
    return NumberLabel(spec) if spec.kind == "regression" else ClassLabel(spec)


def label_from_dict(data: dict[str, Any]) -> ClassLabel | NumberLabel:
    """Restore a fitted label from the result of `to_dict`."""
    spec = Label.model_validate(data["spec"])
    if spec.kind != "regression":
        return ClassLabel(spec, tuple(data["classes"]))
    scale = data.get("scale")  # datasets from before labels were scaled have none
    return NumberLabel(spec, LabelScale.model_validate(scale) if scale else None, fitted=True)


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text, re.ASCII) is not None


def _reject_missing(column: str, missing: int, rows: int) -> None:
    if missing:
        raise DataError(
            f"label: column {column}: {missing} of a batch of {rows} rows have no label; filter them out in the query:"
            f" WHERE {column} IS NOT NULL"
        )
