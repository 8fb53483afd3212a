"""Columns that alone predict the label, and so may have been written down after it was known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farandole.guessing.columns import Column
from farandole.guessing.labels import LabelGuess, class_indices

_BINS = 64
_SURE = 0.98
"""The share of the uncertainty about the label that a leak removes, on rows that were not looked at."""
_LEAST_ROWS = 40


@dataclass(frozen=True)
class Leak:
    """A column that alone predicts the label.

    Args:
        column: The column.
        score: How well, on rows that it was not fitted to.
        measure: `accuracy` or `R2`.
    """

    column: str
    score: float
    measure: str


def find_leaks(columns: Sequence[Column], label: LabelGuess) -> list[Leak]:
    """Find the columns that alone predict the label, each by a table of its values or of 64 intervals.

    Args:
        columns: All columns that become features, and the label.
        label: The label.
    """
    target = next(column for column in columns if column.name == label.column)
    is_class = label.kind != "regression"
    labels = class_indices(target) if is_class else target.numbers
    known = labels >= 0 if is_class else np.isfinite(labels)
    if known.sum() < _LEAST_ROWS:
        return []
    found = []
    for column in columns:
        if column.name == label.column or column.kind in ("bytes", "other"):
            continue
        cells = _cells(column)[known]
        score, base = (_accuracy if is_class else _r2)(cells, labels[known])
        if score >= base + _SURE * (1 - base):
            found.append(Leak(column.name, score, "accuracy" if is_class else "R2"))
    return found


def _cells(column: Column) -> np.ndarray:
    """Return the cell that each row falls into: its value, or the interval of its number; missing is a cell too."""
    if column.kind == "text" or column.distinct <= _BINS:
        return class_indices(column) + 1
    numbers = column.numbers
    bounds = np.unique(np.nanquantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.where(np.isnan(numbers), 0, 1 + np.searchsorted(bounds, numbers, side="right"))


def _halves(rows: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.Generator(np.random.Philox(0)).permutation(rows)
    return order[: rows // 2], order[rows // 2 :]


def _accuracy(cells: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return the accuracy of each cell's most frequent class, and that of the most frequent class of all."""
    fitted, tested = _halves(len(cells))
    num_classes = int(labels.max()) + 1
    size = int(cells.max()) + 1
    if size * num_classes > 50_000_000:
        return 0.0, 0.0
    counts = np.zeros((size, num_classes), np.int64)
    np.add.at(counts, (cells[fitted], labels[fitted]), 1)
    common = int(np.bincount(labels[fitted], minlength=num_classes).argmax())
    best = np.where(counts.sum(1) > 0, counts.argmax(1), common)
    truth = labels[tested]
    return float((best[cells[tested]] == truth).mean()), float((truth == common).mean())


def _r2(cells: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return the share of the variance that the mean of each cell explains, and 0."""
    fitted, tested = _halves(len(cells))
    size = int(cells.max()) + 1
    counts = np.bincount(cells[fitted], minlength=size)
    sums = np.bincount(cells[fitted], weights=labels[fitted], minlength=size)
    mean = labels[fitted].mean()
    means = np.where(counts > 0, sums / np.maximum(counts, 1), mean)
    truth = labels[tested]
    total = float(((truth - mean) ** 2).sum())
    return (1 - float(((truth - means[cells[tested]]) ** 2).sum()) / total if total else 0.0), 0.0
