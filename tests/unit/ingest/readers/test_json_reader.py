"""Every JSON line is read exactly as it is written, or is reported: never a silent wrong value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.json_reader import JsonReader
from farandole.ingest.readers.json_types import arrow_json_type, infer_types
from farandole.spec import JsonSource
from tests.support.ingest_inputs import Write

Found = tuple[list[Any], list[tuple[int | None, str, str | None]]]


def read_json(path: Path, types: dict[str, str]) -> Found:
    source = JsonSource(path=str(path), columns=types)
    assert source.columns is not None
    arrow_types = {name: arrow_json_type(kind) for name, kind in source.columns.items()}
    return _all(JsonReader(source, source.columns, arrow_types), path)


def _all(reader: CsvReader | JsonReader, path: Path) -> Found:
    values, malformed = [], []
    for rows in reader.read(ByteRange(path)):
        values += rows.batch.column(0).to_pylist()
        malformed += [(found.line, found.reason, found.column) for found in rows.malformed]
    return values, malformed


QUOTE, FIELDS, NUL, TEXT = "a quote out of place", "wrong number of fields", "NUL byte", "not utf-8 text"

LINES: dict[str, tuple[str, str | bytes, list[Any], list[tuple[int, str, str | None]]]] = {
    # Each case: type of member a, lines, values of a, malformed lines.
    "another type in a line": ("bigint", '{"a":1}\n{"a":"x"}\n', [1], [(2, "not bigint", "a")]),
    "a text for a number": ("bigint", '{"a":"1"}\n', [], [(1, "not bigint", "a")]),
    "a number for a text": ("string", '{"a":1}\n', [], [(1, "not string", "a")]),
    "a fraction for a whole number": ("bigint", '{"a":1.0}\n', [], [(1, "not bigint", "a")]),
    "an overflow": ("int", '{"a":2147483648}\n{"a":1}\n', [1], [(1, "not int", "a")]),
    "1e999": ("double", '{"a":1e999}\n{"a":1}\n', [1.0], [(1, "not JSON", None)]),
    "NaN": ("double", '{"a":NaN}\n{"a":1}\n', [1.0], [(1, "not JSON", None)]),
    "Infinity": ("double", '{"a":-Infinity}\n{"a":1}\n', [1.0], [(1, "not JSON", None)]),
    "an object for a scalar": ("string", '{"a":{"b":1}}\n', [], [(1, "not string", "a")]),
    "an array for a scalar": ("string", '{"a":["x"]}\n', [], [(1, "not string", "a")]),
    "a scalar for an array": (
        "array<double>",
        '{"a":1}\n{"a":[1,null]}\n',
        [[1.0, None]],
        [(1, "not array<double>", "a")],
    ),
    "a member named twice": ("bigint", '{"a":1,"a":2}\n{"a":3}\n', [3], [(1, "a member named twice", None)]),
    "an array of objects": ("bigint", '[{"a":1}]\n{"a":2}\n', [2], [(1, "not an object", None)]),
    "a bare number": ("bigint", '5\n{"a":2}\n', [2], [(1, "not an object", None)]),
    "a bare null": ("bigint", 'null\n{"a":2}\n', [2], [(1, "not an object", None)]),
    "null behind an object": ("bigint", '{"a":1} null\n{"a":2}\n', [2], [(1, "not JSON", None)]),
    "two objects in a line": ("bigint", '{"a":1} {"a":2}\n{"a":3}\n', [3], [(1, "not JSON", None)]),
    "garbage behind an object": ("bigint", '{"a":1} x\n{"a":3}\n', [3], [(1, "not JSON", None)]),
    "an object over two lines": ("bigint", '{"a":\n1}\n', [], [(1, "not JSON", None), (2, "not JSON", None)]),
    "a line that is cut off": ("bigint", '{"a":1}\n{"a":2', [1], [(2, "not JSON", None)]),
    "single quotes": ("bigint", "{'a':1}\n", [], [(1, "not JSON", None)]),
    "a comma too many": ("bigint", '{"a":1,}\n', [], [(1, "not JSON", None)]),
    "a NUL byte": ("bigint", b'{"a":1}\0\n{"a":2}\n', [2], [(1, "not JSON", None)]),
    "half a surrogate pair": ("string", '{"a":"\\ud800"}\n{"a":"x"}\n', ["x"], [(1, "not JSON", None)]),
    "latin-1": ("string", b'{"a":"caf\xe9"}\n{"a":"x"}\n', ["x"], [(1, TEXT, None)]),
    "a date that does not exist": ("date", '{"a":"2013-02-30"}\n', [], [(1, "not date", "a")]),
    "too many digits": ("decimal(6,2)", '{"a":1.234}\n', [], [(1, "not decimal(6,2)", "a")]),
    "blank lines, a mark and CRLF": ("bigint", '\ufeff\n{"a":1}\r\n\n  \n{"a":2}', [1, 2], []),
    "a member that is not there": ("bigint", '{"b":1}\n{"a":null}\n', [None, None], []),
}


@pytest.mark.parametrize("name", LINES)
def test_json_line_is_read_exactly_or_reported(write: Write, name: str) -> None:
    kind, content, values, malformed = LINES[name]
    assert read_json(write("a.jsonl", content), {"a": kind}) == (values, malformed)


def test_member_with_several_types_has_no_inferred_type(write: Write) -> None:
    path = write("a.jsonl", '{"a":1}\n{"a":"x"}\n')
    with pytest.raises(DataError) as caught:
        infer_types(ByteRange(path))
    assert str(caught.value).startswith(f"{path}: the member a is bigint, string in different lines; ")
