"""A bundle in memory: the answers to the requests of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from farandole.bundle import Bundle, Predictor
from farandole.errors import DataError
from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import RawRows, RowColumns, group_by_kinds, invalid_rows, join_columns, shown_value

if TYPE_CHECKING:
    import pyarrow as pa

Predictions = Mapping[str, np.ndarray]
"""Column of a prediction to its values, one for each row."""
Observer = Callable[["pa.RecordBatch", Predictions], object]
"""Receives the converted rows and the predictions of a batch."""

_MAX_ERRORS = 10


@dataclass
class _Part:
    """Requests whose rows were converted together."""

    positions: Sequence[int]
    lengths: Sequence[int]
    batch: pa.RecordBatch
    features: Mapping[str, np.ndarray]


class ServedModel:
    """One version of a model, loaded.

    Args:
        bundle: The bundle.
        predictor: Its predictor.
        version: The model version.
        name: The name under which it is served. Default: the bundle's.
    """

    def __init__(self, bundle: Bundle, predictor: Predictor, version: str, *, name: str | None = None) -> None:
        self.bundle, self.predictor, self.version = bundle, predictor, version
        self.name, self.digest = name or bundle.name, bundle.digest
        self.columns = RowColumns.of(bundle)
        self.observe: Observer | None = None
        """Is called after each batch, with the rows that were converted together."""

    def compute(self, requests: Sequence[RawRows]) -> list[Predictions | Exception]:
        """Return the predictions for each request, or the error that is its alone."""
        answers: list[Predictions | Exception | None] = [None] * len(requests)
        parts: list[_Part] = []
        for positions in group_by_kinds(requests):
            self._convert(requests, positions, parts, answers)
        if parts:
            self._predict(parts, answers)
        assert all(answer is not None for answer in answers)
        return [answer for answer in answers if answer is not None]

    def convert(self, request: RawRows) -> pa.RecordBatch:
        """Return the rows of a request in the types of training.

        Raises:
            RequestError: A row is wrong.
        """
        try:
            return self._features(request.columns)[0]
        except (DataError, ValueError, ArithmeticError) as error:
            raise self._explain_error(request, error) from error

    def warm_up(self) -> None:
        """Compute an example, since a first prediction takes longer than all others."""
        self.predictor.predict(self.bundle.preprocessing.example())

    def _convert(
        self,
        requests: Sequence[RawRows],
        positions: Sequence[int],
        parts: list[_Part],
        answers: list[Predictions | Exception | None],
    ) -> None:
        """Convert the rows of some requests; if that fails, convert each alone, so that only wrong ones fail."""
        members = [requests[position] for position in positions]
        try:
            batch, features = self._features(join_columns(members))
        except (DataError, ValueError, ArithmeticError) as error:
            if len(positions) > 1:
                for position in positions:
                    self._convert(requests, [position], parts, answers)
            else:
                answers[positions[0]] = self._explain_error(members[0], error)
            return
        parts.append(_Part(positions, [member.num_rows for member in members], batch, features))

    def _features(self, columns: Mapping[str, Any]) -> tuple[pa.RecordBatch, Mapping[str, np.ndarray]]:
        batch = self.predictor.raw_batch(columns)
        return batch, self.predictor.features(batch)

    def _predict(self, parts: Sequence[_Part], answers: list[Predictions | Exception | None]) -> None:
        """Compute the network once for all parts, and deal the rows out to the requests."""
        if len(parts) == 1:
            features = parts[0].features
        else:
            features = {group: np.concatenate([part.features[group] for part in parts]) for group in parts[0].features}
        found = self.predictor.predictions(self.predictor.outputs(features))
        start = 0
        for part in parts:
            first = start
            for position, length in zip(part.positions, part.lengths, strict=True):
                answers[position] = {name: values[start : start + length] for name, values in found.items()}
                start += length
            if self.observe is not None:
                self.observe(part.batch, {name: values[first:start] for name, values in found.items()})

    # Errors --------------------------------------------------------------------------------------------------

    def _explain_error(self, request: RawRows, error: Exception) -> RequestError:
        """Find row, column and value of what is wrong in a request."""
        found: list[dict[str, Any]] = []
        self._search(request, 0, request.num_rows, found)
        return invalid_rows(found or [{"rule": str(error)}])

    def _search(self, request: RawRows, start: int, stop: int, found: list[dict[str, Any]]) -> None:
        """Collect the wrong rows between two positions, by halves."""
        part = {name: values[start:stop] for name, values in request.columns.items()}
        rule = self._problem(part)
        if rule is None or len(found) >= _MAX_ERRORS:
            return
        if stop - start == 1:
            found.append({"row": start, **self._find_column(part, rule)})
            return
        middle = (start + stop) // 2
        self._search(request, start, middle, found)
        self._search(request, middle, stop, found)

    def _find_column(self, row: Mapping[str, Any], rule: str) -> dict[str, Any]:
        """Return column and value that are wrong in a row: those that make an example wrong."""
        example = self.bundle.preprocessing.example()
        for name, values in row.items():
            if (problem := self._problem({**example, name: values})) is not None:
                return {"column": name, "value": shown_value(_plain(values[0])), "rule": problem}
        return {"rule": rule}

    def _problem(self, columns: Mapping[str, Any]) -> str | None:
        try:
            self.bundle.preprocessing.features(self.bundle.preprocessing.raw_batch(columns, self.bundle.row_forms))
        except (DataError, ValueError, ArithmeticError) as error:
            return str(error)
        return None


def _plain(value: Any) -> Any:
    """Return an Arrow scalar as a Python value."""
    return value.as_py() if hasattr(value, "as_py") else value
