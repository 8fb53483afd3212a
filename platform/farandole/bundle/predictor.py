"""Raw rows to predictions: the one way by which a bundle is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess import Preprocessing, RawForm
from farandole.shards import LabelColumn

Compute = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Features `{group: [rows, ...]}` to outputs, float32 `[rows, outputs]`."""

_BLOCK_ROWS, _BLOCK_BYTES = 2048, 512 << 10
"""Rows that a network computes at most at once, and bytes of their features if they are 16 rows or more. Larger blocks
leave the cache of a core; smaller ones have a larger share of each operation's overhead."""
_LEAST_ROWS = 16


class Predictor:
    """The fitted preprocessing, and a network in one of its forms.

    Args:
        preprocessing: The fitted preprocessing.
        forms: Column to how the sources write it.
        compute: The network.
        row_multiple: The network is given a multiple of this many rows: see `farandole.bundle.blocks`.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        forms: Mapping[str, RawForm],
        compute: Compute,
        row_multiple: int = 1,
    ) -> None:
        self._preprocessing, self._forms, self._compute = preprocessing, forms, compute
        self._row_multiple = row_multiple
        self.label: LabelColumn = preprocessing.schema.target

    def raw_batch(self, columns: Mapping[str, Any]) -> pa.RecordBatch:
        """Convert raw rows to the types that the columns had in training.

        Args:
            columns: Column to values (lists, arrays or pandas series); None and NaN are missing.

        Raises:
            DataError: A column is missing, or a value does not fit its column's type; names row, column and value.
        """
        try:
            return self._preprocessing.raw_batch(columns, self._forms)
        except DataError as error:
            row = self._find_wrong_row(columns)
            raise error if row is None else DataError(f"row {row}: {error}") from error

    def features(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Convert raw rows, in the types of training, to feature groups `{group: [rows, ...]}`.

        Raises:
            DataError: A column is missing, has another type, or contains an invalid value.
        """
        return self._preprocessing.features(batch)

    def outputs(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute the network's outputs, float32 `[rows, outputs]`.

        Those of the forms `eager` and `program` do not depend on what else is in the batch.
        """
        rows = len(next(iter(features.values())))
        if not rows:
            return np.empty((0, self.label.num_outputs), np.float32)
        size = _block_rows(sum(values.nbytes for values in features.values()) // rows)
        parts = [
            self._block({name: values[start : start + size] for name, values in features.items()})
            for start in range(0, rows, size)
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def predictions(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of a prediction.

        Returns:
            For classes: `prediction` (the class as text) and `probability` (of the positive class), or one column
            `probability_CLASS` for each class. For regression: `prediction`.
        """
        return predictions(outputs, self.label)

    def predict(self, columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the predictions for raw rows; see `raw_batch` and `predictions`."""
        return self.predictions(self.outputs(self.features(self.raw_batch(columns))))

    def _block(self, features: dict[str, np.ndarray]) -> np.ndarray:
        rows = len(next(iter(features.values())))
        lacking = -rows % self._row_multiple
        if lacking:
            features = {
                name: np.concatenate([values, np.repeat(values[-1:], lacking, 0)]) for name, values in features.items()
            }
        return self._compute(features)[:rows]

    def _find_wrong_row(self, columns: Mapping[str, Any]) -> int | None:
        """Return the first row that is wrong by itself; None if none is, as when a column is missing."""
        if self._is_wrong(columns, 0, 0):
            return None
        start, stop = 0, self._count(columns)
        while stop - start > 1:
            middle = (start + stop) // 2
            start, stop = (start, middle) if self._is_wrong(columns, start, middle) else (middle, stop)
        return start if stop > start and self._is_wrong(columns, start, stop) else None

    def _count(self, columns: Mapping[str, Any]) -> int:
        """Return the number of rows that all columns have."""
        needed = [columns[name] for name in self._preprocessing.columns if name in columns]
        return min((len(values) for values in needed if hasattr(values, "__len__")), default=0)

    def _is_wrong(self, columns: Mapping[str, Any], start: int, stop: int) -> bool:
        try:
            part = {
                name: getattr(columns[name], "iloc", columns[name])[start:stop]
                for name in self._preprocessing.columns
                if name in columns
            }
            self._preprocessing.raw_batch(part, self._forms)
        except DataError:
            return True
        return False


def _block_rows(row_bytes: int) -> int:
    """Return the number of rows of a block, a multiple of `_LEAST_ROWS`: see `farandole.bundle.blocks`."""
    fitting = _BLOCK_BYTES // max(1, row_bytes) // _LEAST_ROWS * _LEAST_ROWS
    return min(_BLOCK_ROWS, max(_LEAST_ROWS, fitting))


def predictions(outputs: np.ndarray, label: LabelColumn) -> dict[str, np.ndarray]:
    """Return the columns of a prediction for outputs `[rows, outputs]`; see `Predictor.predictions`."""
    kind, classes = label.kind, np.array(label.classes, dtype=object)
    if kind == "regression":
        return {"prediction": label.in_units(outputs[:, 0])}
    scores = outputs.astype(np.float64)
    if kind == "binary":
        powers = np.exp(-np.abs(scores[:, 0]))  # of negative numbers, which cannot overflow
        probability = np.where(scores[:, 0] >= 0, 1 / (1 + powers), powers / (1 + powers))
        return {"prediction": classes[(probability > 0.5).astype(int)], "probability": probability}
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    columns = {"prediction": classes[probabilities.argmax(1)]}
    columns |= {f"probability_{name}": probabilities[:, index] for index, name in enumerate(label.classes)}
    return columns
