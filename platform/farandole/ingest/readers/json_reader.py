"""Reader of JSON: lines with one object each, or one array of objects.

A chunk in which every line is one object of the right types, as nearly all are, is parsed by Arrow as a whole; any
other chunk is split line by line.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from farandole.ingest.readers.byte_ranges import ByteRange, RecordChunk
from farandole.ingest.readers.json_arrays import read_json_chunks
from farandole.ingest.readers.row_batch import (
    NOT_JSON,
    NOT_OBJECT,
    MalformedRecord,
    RowBatch,
    convert_columns,
    not_text,
)
from farandole.spec import JsonSource

_MARK = b"\xef\xbb\xbf"
_LINE = re.compile(rb"[^\r\n]+")
_NO_OBJECT = re.compile(rb"(?:\A|[\r\n])[ \t]*[^{ \t\r\n]")
"""A line that does not start like an object."""
_NOT_PLAIN = re.compile(rb"[:,\[][ \t]*-?(?:NaN|Inf)|\}[ \t]*null|\0")
"""Text that Arrow accepts although it is not JSON; and `null` behind an object, which crashes Arrow's parser."""


@dataclass(frozen=True)
class JsonReader:
    """Reader of one source of JSON.

    Args:
        source: The source.
        types: The members to read, and their SQL types.
        arrow_types: The Arrow types of the same members, with dates and timestamps as text; integers beyond bigint that
            become text are decimal numbers.
    """

    source: JsonSource
    types: dict[str, str]
    arrow_types: dict[str, pa.DataType]

    def read(self, byte_range: ByteRange) -> Iterator[RowBatch]:
        """Read the rows of a byte range."""
        for chunk in read_json_chunks(byte_range):
            yield self._convert(chunk)

    def _convert(self, chunk: RecordChunk) -> RowBatch:
        malformed: list[MalformedRecord] = []
        lines: list[tuple[int, int]] | None = None
        table = self._parse(chunk.data) if is_well_formed(chunk.data) else None
        if table is None:
            lines, malformed = self._separate(chunk)
            table = self._parse(b"\n".join(chunk.data[start:stop] for start, stop in lines))
            assert table is not None, "every remaining line can be parsed"
        patterns = {"timestamp": self.source.timestamp_format, "date": self.source.date_format}
        batch, wrong = convert_columns(_with_digits(table, self.types), self.types, patterns)
        if wrong:
            lines = lines or list(line_spans(chunk.data))
            for row, column in wrong.items():
                found = table.column(column)[row].as_py()
                malformed.append(_malformed(chunk, lines[row], f"not {self.types[column]}", column, found))
            batch = batch.filter(pa.array([row not in wrong for row in range(len(batch))]))
        return RowBatch(batch, malformed)

    def _separate(self, chunk: RecordChunk) -> tuple[list[tuple[int, int]], list[MalformedRecord]]:
        """Return the spans of the lines that can be parsed, and the other lines."""
        good: list[tuple[int, int]] = []
        malformed = []
        for span in line_spans(chunk.data):
            line = chunk.data[span[0] : span[1]]
            reason, value = check_line(line)
            if reason:
                malformed.append(_malformed(chunk, span, reason))
            elif self._parse(line) is None:
                malformed.append(self._misfit(chunk, span, line, value))
            else:
                good.append(span)
        return good, malformed

    def _misfit(self, chunk: RecordChunk, span: tuple[int, int], line: bytes, value: dict[str, Any]) -> MalformedRecord:
        if _has_duplicate_names(line):
            return _malformed(chunk, span, "a member named twice")
        column = next((name for name in self.types if name in value and self._parse(line, name) is None), None)
        if column is None:
            return _malformed(chunk, span, NOT_JSON)
        found = json.dumps(value[column], ensure_ascii=False)
        return _malformed(chunk, span, f"not {self.types[column]}", column, found)

    def _parse(self, data: bytes, column: str | None = None) -> pa.Table | None:
        """Parse the members of objects; None if one has another type or a line is not an object.

        Args:
            data: Lines.
            column: The only member to parse. Default: all.
        """
        schema = pa.schema([(name, kind) for name, kind in self.arrow_types.items() if column in (None, name)])
        num_lines = sum(1 for _ in line_spans(data))
        if not num_lines:
            return schema.empty_table()
        table = parse_lines(data, schema)
        if table is None or table.num_rows != num_lines or not all(map(_finite, table.columns)):
            return None
        return table.select(schema.names)


def _with_digits(table: pa.Table, types: dict[str, str]) -> pa.Table:
    """Return a table whose integers beyond bigint, which are parsed as decimal numbers, are their digits as text."""
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and not types[field.name].startswith("decimal"):
            table = table.set_column(position, field.name, table.column(position).cast(pa.string()))
    return table


def parse_lines(data: bytes, schema: pa.Schema | None) -> pa.Table | None:
    """Parse JSON lines with Arrow; None if they do not fit.

    Args:
        data: Lines, each of which starts like an object.
        schema: The members to read; None: all, with inferred types.
    """
    options = pajson.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
    )
    read = pajson.ReadOptions(use_threads=False, block_size=len(data) + 64)
    try:
        return pajson.read_json(pa.py_buffer(data), read_options=read, parse_options=options)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None


def find_members(byte_range: ByteRange, wanted: Set[str], *, max_lines: int | None = None) -> set[str]:
    """Find the wanted members that objects of a byte range have, whatever their values.

    Args:
        byte_range: The range; it is read until all are found.
        wanted: The names.
        max_lines: The number of lines to examine. Default: all.
    """
    found: set[str] = set()
    lines = (line for chunk in read_json_chunks(byte_range) for line in _lines_that_may_have(wanted, chunk.data))
    for line in itertools.islice(lines, max_lines):
        with suppress(ValueError, RecursionError):  # malformed lines are reported when the rows are read
            value = json.loads(line)
            found |= wanted & value.keys() if isinstance(value, dict) else set()
        if found == wanted:
            break
    return found


def _lines_that_may_have(wanted: Set[str], data: bytes) -> Iterator[bytes]:
    """Yield all lines of a chunk, or none if the names occur nowhere in it, plainly or with escapes."""
    names = [json.dumps(name, ensure_ascii=False).encode() for name in wanted]
    if b"\\u" in data or b"\\/" in data or any(name in data for name in names):
        yield from (data[start:stop] for start, stop in line_spans(data))


def is_well_formed(data: bytes) -> bool:
    """Return whether all bytes are UTF-8, every line starts like an object, and nothing but JSON is in it."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    begin = len(_MARK) if data.startswith(_MARK) else 0
    return not (_NO_OBJECT.search(data[begin:] if begin else data) or _NOT_PLAIN.search(data))


def line_spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each line that is not blank, without a byte order mark."""
    begin = len(_MARK) if data.startswith(_MARK) else 0
    for match in _LINE.finditer(data, begin):
        if match[0].strip(b" \t"):
            yield match.span()


def _finite(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds no infinite number."""
    return not pa.types.is_floating(column.type) or pc.all(pc.is_finite(column)).as_py() is not False


def _malformed(
    chunk: RecordChunk, span: tuple[int, int], reason: str, column: str | None = None, found: str = ""
) -> MalformedRecord:
    start, stop = span
    return MalformedRecord(
        str(chunk.byte_range.path), chunk.line_number(start), chunk.data[start:stop], reason, column, found
    )


def check_line(line: bytes) -> tuple[str, Any]:
    """Return why a line is malformed whatever its types, empty if it is not; and its value."""
    try:
        value = json.loads(
            line.decode(), parse_constant=_reject_constant, parse_int=_parse_int, parse_float=_parse_float
        )
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair has no encoding
    except UnicodeDecodeError:
        return not_text("utf-8"), None
    except (ValueError, RecursionError):
        return NOT_JSON, None
    return ("", value) if isinstance(value, dict) else (NOT_OBJECT, None)


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parse_int(text: str) -> int | str:
    return int(text) if len(text) < 4000 else text  # Python raises for longer ones


def _parse_float(text: str) -> float:
    if math.isinf(float(text)):
        raise ValueError(f"{text} is infinite in every type")
    return float(text)


def _has_duplicate_names(line: bytes) -> bool:
    """Return whether an object names a member twice."""
    duplicates: list[bool] = []
    json.loads(line, object_pairs_hook=lambda pairs: duplicates.append(len(dict(pairs)) < len(pairs)))
    return any(duplicates)
