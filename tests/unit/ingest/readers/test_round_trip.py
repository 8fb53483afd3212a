"""Random rows, written as CSV or JSON lines, read in byte ranges of random size, and compared exactly."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farandole.ingest.readers import byte_ranges
from farandole.ingest.readers.byte_ranges import divide_into_tasks
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.json_reader import JsonReader
from farandole.ingest.readers.json_types import arrow_json_type
from farandole.spec import CsvSource, JsonSource

FUZZ = settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=12)
EDGY = st.one_of(TEXT, st.text(st.sampled_from(" \",;\t\r\nax'é"), max_size=8), st.none())
WHOLE = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
NUMBER = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
ROWS = st.lists(st.tuples(EDGY, WHOLE, NUMBER, EDGY), min_size=1, max_size=12)
TYPES = {"s": "string", "n": "bigint", "x": "double", "t": "string"}


def field(value: Any, separator: str, always: bool) -> str:
    text = "" if value is None else str(value)
    quoted = always or any(sign in text for sign in f'"{separator}\r\n')
    return '"' + text.replace('"', '""') + '"' if quoted else text


@FUZZ
@given(
    rows=ROWS,
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    multiline=st.booleans(),
    packed=st.booleans(),
    seed=st.integers(0, 2**32),
    parts=st.integers(1, 400),
)
def test_csv_round_trip_preserves_rows(
    tmp_path: Path,
    rows: list[tuple[Any, ...]],
    separator: str,
    end: str,
    multiline: bool,
    packed: bool,
    seed: int,
    parts: int,
) -> None:
    if not multiline:
        rows = [tuple(v.replace("\r", "").replace("\n", "") if isinstance(v, str) else v for v in row) for row in rows]
    style = random.Random(seed)
    lines = [
        separator.join(TYPES),
        *(separator.join(field(v, separator, style.random() < 0.3) for v in row) for row in rows),
    ]
    content = (end.join(lines) + style.choice(["", end])).encode()
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    source = CsvSource(path=str(path), columns=TYPES, separator=separator, multiline=multiline)
    assert source.columns is not None
    read = in_pieces(CsvReader(source, tuple(TYPES), source.columns), path, parts, splittable=not multiline)
    # In CSV, an empty text and a missing value look the same.
    assert read == [tuple(None if value == "" else value for value in row) for row in rows]


@FUZZ
@given(rows=ROWS, ascii_only=st.booleans(), end=st.sampled_from(["\n", "\r\n"]), parts=st.integers(1, 400))
def test_json_lines_round_trip_preserves_rows(
    tmp_path: Path, rows: list[tuple[Any, ...]], ascii_only: bool, end: str, parts: int
) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(dict(zip(TYPES, row, strict=True)), ensure_ascii=ascii_only) for row in rows]
    path.write_bytes(end.join(lines).encode())
    source = JsonSource(path=str(path), columns=TYPES)
    assert source.columns is not None
    reader = JsonReader(source, source.columns, {name: arrow_json_type(kind) for name, kind in source.columns.items()})
    assert in_pieces(reader, path, parts, splittable=True) == rows


def in_pieces(reader: CsvReader | JsonReader, path: Path, size: int, *, splittable: bool) -> list[tuple[Any, ...]]:
    """Read all rows, in byte ranges of about `size` bytes."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_MIN_RANGE_BYTES", size), ("_MAX_RANGE_BYTES", size), ("CHUNK_BYTES", max(1, size // 2))):
            patch.setattr(byte_ranges, name, value)
        for task in divide_into_tasks((path,), 2, splittable=splittable):
            for part in task:
                for rows in reader.read(part):
                    assert rows.malformed == []
                    found += [tuple(row.values()) for row in rows.batch.to_pylist()]
    return found
