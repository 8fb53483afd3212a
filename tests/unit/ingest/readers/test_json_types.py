"""Types of undeclared members keep every value, or the source is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.json_types import infer_types, inferred_reader, unify_schemas
from farandole.spec import JsonSource
from tests.support.ingest_inputs import Write


def read(*paths: Path, **wanted: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return types and rows of files whose members are not declared."""
    schema = unify_schemas(paths[0], [infer_types(ByteRange(path)) for path in paths])
    reader = inferred_reader(JsonSource(path="a.json"), schema, wanted)
    batches = [rows for path in paths for rows in reader.read(ByteRange(path))]
    assert [found for rows in batches for found in rows.malformed] == []
    return dict(reader.types), [row for rows in batches for row in rows.batch.to_pylist()]


def lines(*values: str) -> str:
    return "".join(f'{{"a": {value}}}\n' for value in values)


CASES: dict[str, tuple[list[str], str, list[Any]]] = {
    "integers beyond bigint": (["12345678901234567890", "-5", "null"], "string", ["12345678901234567890", "-5", None]),
    "integers beyond 2^53": (["9007199254740993", "1"], "bigint", [9007199254740993, 1]),
    "fractions": (["1.10", "2"], "double", [1.1, 2.0]),
    "large fractions": (["1e300", "2"], "double", [1e300, 2.0]),
    "large numbers with exponents alone": (["1e20", "2e20"], "double", [1e20, 2e20]),
    "large integers that a double holds, beside fractions": (["36893488147419103232", "0.5"], "double", [2.0**65, 0.5]),
    "codes in quotes": (['"00501"', '"501"'], "string", ["00501", "501"]),
    "dates in quotes": (['"2013-01-05"'], "string", ["2013-01-05"]),
    "nested integers": (["[9007199254740993]", "[1]"], "array<bigint>", [[9007199254740993], [1]]),
}


@pytest.mark.parametrize("name", CASES)
def test_inferred_type_keeps_every_value(write: Write, name: str) -> None:
    values, kind, wanted = CASES[name]
    assert read(write("a.jsonl", lines(*values))) == ({"a": kind}, [{"a": value} for value in wanted])


REFUSED: dict[str, tuple[list[str], str]] = {
    "an integer that a double rounds": (
        ["0.5", "9007199254740993"],
        "line 2: the member a holds 9007199254740993, which",
    ),
    "an integer of 40 digits": (["1" * 40], "line 1: the member a holds 111111"),
    "an integer of 400 digits": (["1" * 400], "line 1: the member a holds 111111"),
    "a nested integer": (['{"b": [12345678901234567890]}'], "line 1: the member a holds 12345678901234567890, which"),
    "text and integers": (['"x"', "12345678901234567890"], "the member a is string, "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_integer_that_no_type_keeps_is_refused(write: Write, name: str) -> None:
    values, message = REFUSED[name]
    path = write("a.jsonl", lines(*values))
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "columns" in str(caught.value)


def test_empty_arrays_have_no_members(write: Write) -> None:
    empty = write("empty.json", "[]\n")
    assert read(empty) == ({}, [])
    assert read(empty, write("one.json", '[{"a": 1}]')) == ({"a": "bigint"}, [{"a": 1}])


def test_integers_and_fractions_of_different_files_are_unified_exactly(write: Write) -> None:
    wide, big = write("w.jsonl", lines("9007199254740993")), write("b.jsonl", lines("12345678901234567890"))
    plain, fraction = write("p.jsonl", lines("5")), write("f.jsonl", lines("0.5"))
    assert read(wide, big, plain)[1] == [{"a": text} for text in ("9007199254740993", "12345678901234567890", "5")]
    assert read(plain, fraction) == ({"a": "double"}, [{"a": 5.0}, {"a": 0.5}])
    for path in (wide, big):
        with pytest.raises(DataError, match=r"the member a holds an integer beyond 2\^53"):
            read(path, fraction)


def test_text_becomes_what_its_uses_need(write: Write) -> None:
    path = write("a.jsonl", '{"a": "1.10", "b": 12345678901234567890, "c": "2013-01-05T10:00:00+02:00"}\n')
    types, rows = read(path, a="double", b="double", c="timestamp")
    assert types == {"a": "double", "b": "double", "c": "timestamp"}
    assert (rows[0]["a"], rows[0]["b"], str(rows[0]["c"])) == (1.1, 12345678901234567890.0, "2013-01-05 08:00:00+00:00")


NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False))


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(st.none() | NUMBERS | st.text(max_size=3), min_size=1, max_size=5))
def test_value_is_given_back_exactly_or_the_source_is_refused(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(*map(json.dumps, values)), encoding="utf-8")
    try:
        types, rows = read(path)
    except DataError:
        return  # the message is tested above
    found = [row["a"] for row in rows]
    if types["a"] == "string":
        assert found == [str(value) if isinstance(value, int) else value for value in values]
    else:
        assert found == values  # Python compares integers and fractions exactly
