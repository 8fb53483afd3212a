"""Raw rows in the bodies of requests: JSON rows and JSON columns; see `arrow_rows` for Arrow IPC bytes.

A body is only taken apart here. Its values are converted with the rows of other requests, by the preprocessing of the
bundle, so rows are joined only where that changes nothing: see `RawRows.kinds`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from farandole.bundle import Bundle
from farandole.serving.query import TranslatedQuery
from farandole.serving.service.errors import RequestError
from farandole.serving.service.settings import NotANumber, RequestLimits

_FORM = 'send {"rows": [{COLUMN: VALUE, ...}, ...]} or {"columns": {COLUMN: [VALUE, ...], ...}}'
_ABSENT = "absent"
_NUMBER_TYPES = frozenset({"float", "double"})


@dataclass(frozen=True)
class RowColumns:
    """The columns of the rows that a model takes: those of its query's source, or else those of its features.

    Args:
        names: The columns, in order.
        types: Column to SQL type.
        optional: Columns that a row may lack.
        patterned: Columns of times that the source writes by a pattern. A text that fits it and ISO 8601 means what
            the texts beside it say, so such texts are never joined with those of other requests.
    """

    names: tuple[str, ...]
    types: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    patterned: frozenset[str] = frozenset()

    @classmethod
    def of(cls, bundle: Bundle, query: TranslatedQuery | None) -> RowColumns:
        """Return the columns of a bundle's model, given its query."""
        types = bundle.preprocessing.types if query is None else query.columns
        forms = bundle.row_forms if query is None else query.forms
        return cls(
            bundle.preprocessing.columns if query is None else tuple(types),
            types,
            frozenset(name for name, form in forms.items() if form.may_be_absent),
            frozenset(name for name, form in forms.items() if form.timestamp_format or form.date_format),
        )


@dataclass(frozen=True, slots=True)
class RawRows:
    """The rows of one request.

    Args:
        columns: Column to values: lists of JSON values, or Arrow arrays.
        num_rows: The number of rows.
        kinds: For each column the Python type of its values, None if all are missing. Rows of two requests may be
            converted together if these agree: an integer and a text in one column would be read as two texts.
        by_columns: Whether the answer has columns instead of rows.
    """

    columns: Mapping[str, Any]
    num_rows: int
    kinds: tuple[object, ...]
    by_columns: bool = False


def parse_json(body: bytes, not_a_number: NotANumber) -> Any:
    """Parse a JSON document.

    Raises:
        RequestError: It is not JSON, or holds NaN or an infinity.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not_a_number == "refuse":
            raise RequestError(
                400, f"the body is not JSON ({error}); NaN and infinities are not JSON: send null for a missing value"
            ) from None
    try:
        document = json.loads(body, parse_constant=_read_constant)
        json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair is not a text
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON ({error})") from None
    return document


def _read_constant(text: str) -> None:
    if text != "NaN":
        raise ValueError(f"{text} is not a value that a model can use")


def rows_from_json(body: bytes, columns: RowColumns, limits: RequestLimits, not_a_number: NotANumber) -> RawRows:
    """Return the rows in a JSON body.

    Args:
        body: The bytes.
        columns: The columns that the model needs.
        limits: Most rows and columns.
        not_a_number: The policy for NaN.

    Raises:
        RequestError: The body has another form, or is too large; or a row lacks a column.
    """
    document = parse_json(body, not_a_number)
    if isinstance(document, dict) and len(document) == 1:
        if isinstance(rows := document.get("rows"), list):
            return _from_rows(rows, columns, limits)
        if isinstance(found := document.get("columns"), dict):
            return _from_columns(found, columns, limits)
    raise RequestError(400, f"the body has another form; {_FORM}")


def _from_rows(rows: list[Any], columns: RowColumns, limits: RequestLimits) -> RawRows:
    check_size(len(rows), 0, limits)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RequestError(400, f"row {number} is not an object; {_FORM}")
        check_size(0, len(row), limits)
    try:
        if len(rows) == 1:
            (row,) = rows
            found = {name: [row[name]] for name in columns.names}
        else:
            found = {name: [row[name] for row in rows] for name in columns.names}
    except KeyError:
        found = _with_gaps(rows, columns)
    return raw_rows(found, len(rows), columns)


def _with_gaps(rows: list[dict[str, Any]], columns: RowColumns) -> dict[str, list[Any]]:
    """Return the columns of rows of which some lack members.

    Raises:
        RequestError: A row lacks a column that it must have.
    """
    required = [name for name in columns.names if name not in columns.optional]
    wrong = [
        {"row": number, "column": name, "rule": "the column is missing; send null for a missing value"}
        for number, row in enumerate(rows)
        for name in required
        if name not in row
    ]
    if wrong:
        raise invalid_rows(wrong)
    present = [name for name in columns.names if any(name in row for row in rows)]
    return {name: [row.get(name) for row in rows] for name in present}


def _from_columns(found: dict[str, Any], columns: RowColumns, limits: RequestLimits) -> RawRows:
    check_size(0, len(found), limits)
    for name, values in found.items():
        if not isinstance(values, list):
            raise RequestError(400, f"a column is not a list; {_FORM}", errors=[{"column": name}])
    return from_columns(found, columns, limits, by_columns=True)


def from_columns(
    found: Mapping[str, Any], columns: RowColumns, limits: RequestLimits, *, by_columns: bool = False
) -> RawRows:
    """Return the rows of complete columns.

    Raises:
        RequestError: A column is missing, or the columns have different lengths.
    """
    missing = [name for name in columns.names if name not in found and name not in columns.optional]
    if missing:
        raise invalid_rows([{"column": name, "rule": "the column is missing"} for name in missing])
    needed = {name: found[name] for name in columns.names if name in found}
    lengths = {len(values) for values in needed.values()}
    if len(lengths) > 1:
        raise RequestError(422, "the columns have different numbers of values; send equally many of each")
    num_rows = lengths.pop() if lengths else 0
    check_size(num_rows, 0, limits)
    return raw_rows(needed, num_rows, columns, by_columns=by_columns)


def raw_rows(found: Mapping[str, Any], num_rows: int, columns: RowColumns, *, by_columns: bool = False) -> RawRows:
    """Return rows with the kinds of their values.

    Raises:
        RequestError: There is no row.
    """
    if not num_rows:
        raise RequestError(422, "the request has no rows; send at least one")
    kinds = [_kind(found, name, columns.types[name]) for name in columns.names]
    if columns.patterned:
        pairs = zip(columns.names, kinds, strict=True)
        kinds = [object() if kind is str and name in columns.patterned else kind for name, kind in pairs]
    return RawRows(found, num_rows, tuple(kinds), by_columns)


def _kind(found: Mapping[str, Any], name: str, sql_type: str) -> object:
    """Return the one type of a column's values; an object that equals no other if there are several."""
    values = found.get(name, _ABSENT)
    if values is _ABSENT:
        return _ABSENT
    if isinstance(values, pa.Array):
        return str(values.type)
    if len(values) == 1:
        kind: type = type(values[0])
        if kind is int and sql_type in _NUMBER_TYPES:
            return float
        return None if values[0] is None else kind
    kinds = set(map(type, values)) - {type(None)}
    if sql_type in _NUMBER_TYPES and int in kinds:
        kinds = kinds - {int} | {float}
    if len(kinds) > 1:
        return object()
    return kinds.pop() if kinds else None


def check_size(rows: int, columns: int, limits: RequestLimits) -> None:
    """Check the size of a request.

    Raises:
        RequestError: It has too many rows or columns.
    """
    if rows > limits.max_rows:
        raise RequestError(413, f"more than {limits.max_rows} rows; send them in several requests")
    if columns > limits.max_columns:
        raise RequestError(413, f"more than {limits.max_columns} columns; send only those that the model needs")


def invalid_rows(errors: Sequence[Mapping[str, Any]]) -> RequestError:
    """Return the error of a request with wrong rows."""
    count = len({error.get("row") for error in errors if "row" in error})
    which = "one row does" if count == 1 else f"{count} rows do" if count else "the columns do"
    return RequestError(422, f"{which} not fit the model's columns", errors=list(errors)[:_MAX_ERRORS])


_MAX_ERRORS = 10


def shown_value(value: Any) -> Any:
    """Return a value of a row, short enough for an error."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def group_by_kinds(requests: Iterable[RawRows]) -> list[list[int]]:
    """Return the positions of requests whose rows are converted together.

    Missing values fit any kind, so the kinds of a group grow more definite with each request.
    """
    groups: list[tuple[list[object], list[int]]] = []
    exact: dict[tuple[object, ...], list[int]] = {}
    for position, request in enumerate(requests):
        if (members := exact.get(request.kinds)) is not None:
            members.append(position)
            continue
        group = next((each for each in groups if _fit(each[0], request.kinds)), None)
        if group is None:
            group = ([None] * len(request.kinds), [])
            groups.append(group)
        kinds, members = group
        kinds[:] = [theirs if own is None else own for own, theirs in zip(kinds, request.kinds, strict=True)]
        members.append(position)
        exact[request.kinds] = members
    return [members for _, members in groups]


def _fit(kinds: Sequence[object], others: Sequence[object]) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(kinds, others, strict=True))


def join_columns(requests: Sequence[RawRows]) -> Mapping[str, Any]:
    """Return the columns of several requests of one group, one after the other."""
    if len(requests) == 1:
        return requests[0].columns
    joined: dict[str, Any] = {}
    for name, first in requests[0].columns.items():
        if isinstance(first, pa.Array):
            joined[name] = pa.concat_arrays([request.columns[name] for request in requests])
        else:
            joined[name] = [value for request in requests for value in request.columns[name]]
    return joined
