"""A file that is one array of objects is read as lines of objects are; a broken array is reported with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.ingest.readers import byte_ranges
from farandole.ingest.readers.byte_ranges import ByteRange, divide_into_tasks
from farandole.ingest.readers.json_arrays import is_array, read_json_chunks
from farandole.ingest.readers.json_reader import JsonReader
from farandole.ingest.readers.json_types import arrow_json_type
from farandole.spec import JsonSource
from tests.support.ingest_inputs import Write


def read(path: Path, **types: str) -> tuple[list[Any], list[tuple[int | None, str]]]:
    """Return the first member's values, and line and reason of the malformed records."""
    reader = JsonReader(
        JsonSource(path=str(path)), types, {name: arrow_json_type(kind) for name, kind in types.items()}
    )
    values: list[Any] = []
    malformed: list[tuple[int | None, str]] = []
    for rows in reader.read(ByteRange(path)):
        values += rows.batch.column(0).to_pylist()
        malformed += [(found.line, found.reason) for found in rows.malformed]
    return values, malformed


GOOD: dict[str, tuple[str, list[Any]]] = {
    "compact": ('[{"a":1},{"a":2}]', [1, 2]),
    "indented": ('\ufeff\n [\n  {\n    "a": 1\n  },\r\n  {\n    "a": 2,\n "b": [{"c": "],"}]\n  }\n]\n\n', [1, 2]),
    "one object on each line": ('[\n{"a": 1}\n,{"a": 2}\n]', [1, 2]),
    "empty": (" [ \n ] ", []),
    "brackets, quotes and backslashes in texts": ('[{"b": "}],[\\"", "a": 1}, {"b": "\\\\", "a": 2}]', [1, 2]),
}


@pytest.mark.parametrize("name", GOOD)
def test_array_is_read(write: Write, name: str) -> None:
    text, values = GOOD[name]
    assert read(write("a.json", text), a="bigint") == (values, [])


MALFORMED: dict[str, tuple[str, list[Any], list[tuple[int, str]]]] = {
    "no objects": ('[{"a": 1},\n 5,\n\n [2], {"a": 3}]', [1, 3], [(2, "not an object"), (4, "not an object")]),
    "a value of another type": ('[\n  {"a": 1},\n  {\n    "a": "x"\n  }\n]', [1], [(3, "not bigint")]),
    "a comma is missing": ('[\n{"a": 1}\n{"a": 2}\n]', [], [(2, "not JSON")]),
    "a line end in a text": ('[{"a": 1}, {"b": "x\ny", "a": 2},\n{"a": 3}]', [1, 3], [(1, "not JSON")]),
    "no JSON": ("[{'a': 1}]", [], [(1, "not JSON")]),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_element_is_reported_with_its_line(write: Write, name: str) -> None:
    text, values, malformed = MALFORMED[name]
    assert read(write("a.json", text), a="bigint") == (values, malformed)


BROKEN: dict[str, tuple[str, str]] = {
    "no end": ('[\n{"a": 1},\n{"a": 2}\n', "line 4: the file ends inside of its array, the last `]` is missing"),
    "an open text": ('[\n{"a": "1},\n', "line 3: the file ends inside of its array"),
    "a comma at the end": ('[\n{"a": 1},\n]', "line 3: the array has a comma and no object beside it"),
    "two commas": ('[\n{"a": 1},\n,{"a": 2}]', "line 3: the array has a comma and no object beside it"),
    "a comma at the start": ('[,{"a": 2}]', "line 1: the array has a comma and no object beside it"),
    "text behind it": ('[\n{"a": 1}\n]\n\n{"a": 2}', "line 5: text follows the end of the array"),
    "another bracket": ('[\n{"a": 1}\n}', "line 3: a `}` where the array must continue or end"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_array_is_reported_with_its_line(write: Write, name: str) -> None:
    text, message = BROKEN[name]
    path = write("a.json", text)
    with pytest.raises(DataError) as caught:
        read(path, a="bigint")
    assert str(caught.value).startswith(f"{path}: {message}")


def test_lines_that_begin_with_an_array_are_lines(write: Write) -> None:
    path = write("a.jsonl", '[1, 2]\n{"a": 1}\n')
    assert not is_array(path)
    assert read(path, a="bigint") == ([1], [(1, "not an object")])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(['"', "\\", '\\"', "[{", "}],\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=8),
    indent=st.sampled_from([None, 1, 4]),
    ascii_only=st.booleans(),
    size=st.integers(1, 60),
    packed=st.booleans(),
)
def test_elements_of_an_array_are_the_records_whatever_the_blocks(
    tmp_path: Path, rows: list[dict[str, Any]], indent: int | None, ascii_only: bool, size: int, packed: bool
) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(content) if packed else content)
    found: list[Any] = []
    lines: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("farandole.ingest.readers.json_arrays._SNIFFED_BYTES", size)
        for name in ("CHUNK_BYTES", "_MIN_RANGE_BYTES", "_MAX_RANGE_BYTES"):
            patch.setattr(byte_ranges, name, size)
        for part in (part for task in divide_into_tasks((path,), 2, splittable=True) for part in task):
            for chunk in read_json_chunks(part):
                offset = 0
                for line in chunk.data.split(b"\n")[:-1]:
                    found.append(json.loads(line.decode(errors="surrogatepass")))
                    lines.append(chunk.line_number(offset))
                    offset += len(line) + 1
    assert found == rows
    if indent:
        starts = [
            number for number, line in enumerate(content.split(b"\n"), 1) if line.startswith(b" " * indent + b"{")
        ]
        assert lines == starts
