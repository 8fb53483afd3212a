"""A bundle in memory: the answers to the requests of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.bundle import Bundle, Predictor
from farandole.errors import DataError
from farandole.preprocess.raw_rows import convert_column
from farandole.serving.query import TranslatedQuery, as_model_columns
from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import RawRows, RowColumns, group_by_kinds, invalid_rows, join_columns, shown_value

Predictions = Mapping[str, np.ndarray]
"""Column of a prediction to its values, one for each row."""
Observer = Callable[[pa.RecordBatch, Predictions], object]
"""Receives the converted rows and the predictions of a batch."""

_MAX_ERRORS = 10


@dataclass(frozen=True)
class ConvertedRows:
    """Rows in the types of training.

    Args:
        batch: The rows that the model's query keeps; without a query, all.
        kept: The positions of these among all rows; None: all are kept.
        num_rows: The number of all rows.
    """

    batch: pa.RecordBatch
    kept: np.ndarray | None
    num_rows: int


@dataclass
class _Part:
    """Requests whose rows were converted together."""

    positions: Sequence[int]
    lengths: Sequence[int]
    rows: ConvertedRows
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
        self.query = TranslatedQuery.load(bundle.path)
        """The job's query, through which rows of the source pass; None: rows have the model's columns."""
        self.columns = RowColumns.of(bundle, self.query)
        self._types = {column: bundle.preprocessing.types[column] for column in bundle.preprocessing.columns}
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

    def convert(self, request: RawRows) -> ConvertedRows:
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
        if self.query is not None:
            with suppress(DataError):  # a row of missing values need not be valid
                self._features({name: [None] for name in self.columns.names})

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
            rows, features = self._features(join_columns(members))
        except (DataError, ValueError, ArithmeticError) as error:
            if len(positions) > 1:
                for position in positions:
                    self._convert(requests, [position], parts, answers)
            else:
                answers[positions[0]] = self._explain_error(members[0], error)
            return
        parts.append(_Part(positions, [member.num_rows for member in members], rows, features))

    def _features(self, columns: Mapping[str, Any]) -> tuple[ConvertedRows, Mapping[str, np.ndarray]]:
        if self.query is None:
            batch = self.predictor.raw_batch(columns)
            rows = ConvertedRows(batch, None, batch.num_rows)
        else:
            source = self.query.raw_batch(columns)
            found = self.query.apply(source)
            kept = found.rows if len(found.excluded) else None
            rows = ConvertedRows(as_model_columns(found.columns, self._types), kept, source.num_rows)
        return rows, self.predictor.features(rows.batch)

    def _predict(self, parts: Sequence[_Part], answers: list[Predictions | Exception | None]) -> None:
        """Compute the network once for all parts, and deal the rows out to the requests."""
        if len(parts) == 1:
            features = parts[0].features
        else:
            features = {group: np.concatenate([part.features[group] for part in parts]) for group in parts[0].features}
        found = self.predictor.predictions(self.predictor.outputs(features))
        first = 0
        for part in parts:
            stop = first + part.rows.batch.num_rows
            own = {name: values[first:stop] for name, values in found.items()}
            if self.observe is not None:
                self.observe(part.rows.batch, own)
            whole, start = _with_excluded(own, part.rows), 0
            for position, length in zip(part.positions, part.lengths, strict=True):
                answers[position] = {name: values[start : start + length] for name, values in whole.items()}
                start += length
            first = stop

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
        """Return column and value that are wrong in a row: those that cannot be converted, or make an example wrong."""
        example = self.bundle.preprocessing.example()
        for name, values in row.items():
            problem = self._conversion_problem(name, values)
            if problem is None and self.query is None:
                problem = self._problem({**example, name: values})
            if problem is not None:
                if name in self.bundle.policies:  # what policies protect is in no error
                    return {"column": name, "rule": problem}
                return {"column": name, "value": shown_value(_plain(values[0])), "rule": problem}
        return {"rule": rule.removeprefix("row 0: ")}

    def _conversion_problem(self, name: str, values: Any) -> str | None:
        forms = self.bundle.row_forms if self.query is None else self.query.forms
        try:
            convert_column(name, values, self.columns.types[name], forms.get(name))
        except (DataError, ValueError, ArithmeticError) as error:
            return str(error)
        return None

    def _problem(self, columns: Mapping[str, Any]) -> str | None:
        try:
            self._features(columns)
        except (DataError, ValueError, ArithmeticError) as error:
            return str(error)
        return None


def _with_excluded(found: Predictions, rows: ConvertedRows) -> Predictions:
    """Return predictions for all rows; those of rows that the query excludes are missing (None, NaN)."""
    if rows.kept is None:
        return found
    whole = {}
    for name, values in found.items():
        column = np.full(rows.num_rows, None if values.dtype == object else np.nan, values.dtype)
        column[rows.kept] = values
        whole[name] = column
    return whole


def _plain(value: Any) -> Any:
    """Return an Arrow scalar as a Python value, or as a text where Python has none: a date of the year 20,000."""
    if not isinstance(value, pa.Scalar):
        return value
    try:
        return value.as_py()
    except (ValueError, OverflowError, KeyError):  # an unknown time zone is a KeyError
        return _spelled(value)


def _spelled(value: pa.Scalar) -> str:
    """Return a scalar as Arrow writes it, or its type."""
    try:
        return str(value.cast(pa.string()).as_py())
    except (pa.ArrowException, ValueError):
        return f"a value of the type {value.type}"
