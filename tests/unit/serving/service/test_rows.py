from __future__ import annotations

import json
from typing import Any

import pytest

from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import (
    RawRows,
    RowColumns,
    group_by_kinds,
    join_columns,
    rows_from_json,
    shown_value,
)
from farandole.serving.service.settings import RequestLimits

COLUMNS = RowColumns(("x", "name"), {"x": "double", "name": "string"})
LIMITS = RequestLimits(max_rows=5, max_columns=4, max_body_bytes=10_000)


def parse(document: Any, columns: RowColumns = COLUMNS, **policy: Any) -> RawRows:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return rows_from_json(body, columns, LIMITS, policy.get("not_a_number", "refuse"))


def test_rows_and_columns_mean_the_same() -> None:
    rows = parse({"rows": [{"x": 1, "name": "a", "more": 0}, {"name": None, "x": 2.5}]})
    columns = parse({"columns": {"name": ["a", None], "x": [1, 2.5], "more": [0, 0]}})
    assert rows.columns == columns.columns == {"x": [1, 2.5], "name": ["a", None]}
    assert (rows.num_rows, rows.by_columns, columns.by_columns) == (2, False, True)
    assert rows.kinds == columns.kinds == (float, str)


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"rows": [{"x": NaN, "name": "a"}]}', 400),
        (b'{"rows": [{"x": Infinity, "name": "a"}]}', 400),
        ([{"x": 1}], 400),
        ({"rows": {}}, 400),
        ({"rows": [1]}, 400),
        ({"rows": [{"x": 1, "name": "a"}], "columns": {}}, 400),
        ({"columns": {"x": 1, "name": ["a"]}}, 400),
        ({"columns": {"x": [1], "name": ["a", "b"]}}, 422),
        ({"rows": []}, 422),
        ({"rows": [{"x": 1}]}, 422),
        ({"rows": [{"x": 1, "name": "a"}] * 6}, 413),
        ({"columns": {"x": [1] * 6, "name": ["a"] * 6}}, 413),
        ({"rows": [{str(number): 1 for number in range(5)}]}, 413),
        ({"columns": {str(number): [1] for number in range(5)}}, 413),
    ],
    ids=str,
)
def test_wrong_body_has_a_status_that_says_what_is_wrong(document: Any, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        parse(document)
    assert refused.value.status == status


def test_missing_column_is_named_with_its_row() -> None:
    with pytest.raises(RequestError) as refused:
        parse({"rows": [{"x": 1, "name": "a"}, {"name": "b"}]})
    (error,) = refused.value.errors
    assert (error["row"], error["column"]) == (1, "x")


def test_column_that_the_source_may_lack_is_missing_values() -> None:
    columns = RowColumns(COLUMNS.names, COLUMNS.types, optional=frozenset({"x"}))
    assert parse({"rows": [{"x": 1, "name": "a"}, {"name": "b"}]}, columns).columns["x"] == [1, None]
    assert "x" not in parse({"rows": [{"name": "b"}]}, columns).columns


def test_nan_is_a_missing_value_if_the_policy_says_so() -> None:
    assert parse(b'{"rows": [{"x": NaN, "name": "a"}]}', not_a_number="missing").columns["x"] == [None]
    with pytest.raises(RequestError, match="Infinity"):
        parse(b'{"rows": [{"x": Infinity, "name": "a"}]}', not_a_number="missing")


@pytest.mark.parametrize("policy", ["refuse", "missing"])
@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b"9" * 5_000, b"[" * 50_000])
def test_value_that_is_not_json_is_refused_whatever_the_policy(policy: str, text: bytes) -> None:
    with pytest.raises(RequestError, match="is not JSON") as refused:
        parse(b'{"rows": [{"x": 1, "name": ' + text + b"}]}", not_a_number=policy)
    assert refused.value.status == 400


def test_rows_are_joined_only_with_rows_of_the_same_kinds() -> None:
    values: list[tuple[Any, Any]] = [(1, "a"), (2.5, "b"), ("3", "c"), (None, "d"), (True, "e"), ("4", "f")]
    requests = [parse({"rows": [{"x": x, "name": name}]}) for x, name in values]
    groups = group_by_kinds(requests)
    assert groups == [[0, 1, 3], [2, 5], [4]]
    assert join_columns([requests[index] for index in groups[0]]) == {"x": [1, 2.5, None], "name": ["a", "b", "d"]}


def test_mixed_column_is_never_joined() -> None:
    requests = [parse({"columns": {"x": [1, "a"], "name": ["a", "b"]}}) for _ in range(2)]
    assert group_by_kinds(requests) == [[0], [1]]


def test_texts_with_a_pattern_are_never_joined() -> None:
    columns = RowColumns(("day",), {"day": "date"}, patterned=frozenset({"day"}))
    requests = [parse({"rows": [{"day": day}]}, columns) for day in ("2013-02-01", "2013-02-20", None)]
    assert group_by_kinds(requests) == [[0, 2], [1]]


def test_long_values_are_shortened_in_errors() -> None:
    assert shown_value("a" * 100) == "a" * 57 + "..."
    assert shown_value(float("inf")) == "inf"
    assert shown_value({"a": 1}) == "{'a': 1}"
    assert shown_value(None) is None
