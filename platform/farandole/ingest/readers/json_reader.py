"""JSON lines to rows. A piece of a file in which every line is one object of the right types, as nearly all are, is
parsed by Arrow as a whole; any other is taken apart line by line."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange, RecordChunk, cut_at_line_end, read_chunks
from farandole.ingest.readers.row_batch import MalformedRecord, RowBatch, convert_columns
from farandole.preprocess.values import arrow_type
from farandole.spec import JsonSource, split_struct_fields

_MARK = b"\xef\xbb\xbf"
_LINE = re.compile(rb"[^\r\n]+")
_NO_OBJECT = re.compile(rb"(?:\A|[\r\n])[ \t]*[^{ \t\r\n]")
"""A line that does not begin like an object."""
_NOT_PLAIN = re.compile(rb"[:,\[][ \t]*-?(?:NaN|Inf)|\}[ \t]*null|\0")
"""What Arrow takes and JSON does not; and `null` behind an object, at which Arrow's parser crashes."""


@dataclass(frozen=True)
class JsonReader:
    """Reads one source of JSON lines.

    Args:
        source: How it is written.
        types: The members to read, and their SQL types.
        arrow_types: The same members' Arrow types, dates and timestamps as text.
    """

    source: JsonSource
    types: dict[str, str]
    arrow_types: dict[str, pa.DataType]

    def read(self, part: ByteRange) -> Iterator[RowBatch]:
        """The rows of a part of a file."""
        for chunk in read_chunks(part, cut_at_line_end):
            yield self._rows(chunk)

    def _rows(self, chunk: RecordChunk) -> RowBatch:
        malformed: list[MalformedRecord] = []
        lines: list[tuple[int, int]] | None = None
        table = self._parse(chunk.data) if _in_order(chunk.data) else None
        if table is None:
            lines, malformed = self._sort_out(chunk)
            table = self._parse(b"\n".join(chunk.data[start:stop] for start, stop in lines))
            assert table is not None, "each line could be parsed"
        patterns = {"timestamp": self.source.timestamp_format, "date": self.source.date_format}
        batch, wrong = convert_columns(table, self.types, patterns)
        if wrong:
            lines = lines or list(_lines(chunk.data))
            for row, column in wrong.items():
                found = table.column(column)[row].as_py()
                malformed.append(_malformed(chunk, lines[row], f"not {self.types[column]}", column, found))
            batch = batch.filter(pa.array([row not in wrong for row in range(len(batch))]))
        return RowBatch(batch, malformed)

    def _sort_out(self, chunk: RecordChunk) -> tuple[list[tuple[int, int]], list[MalformedRecord]]:
        """The lines that can be parsed, and the others."""
        good: list[tuple[int, int]] = []
        malformed = []
        for place in _lines(chunk.data):
            line = chunk.data[place[0] : place[1]]
            reason, value = _judge(line)
            if reason:
                malformed.append(_malformed(chunk, place, reason))
            elif self._parse(line) is None:
                malformed.append(self._misfit(chunk, place, line, value))
            else:
                good.append(place)
        return good, malformed

    def _misfit(
        self, chunk: RecordChunk, place: tuple[int, int], line: bytes, value: dict[str, Any]
    ) -> MalformedRecord:
        if _names_twice(line):
            return _malformed(chunk, place, "a member named twice")
        column = next((name for name in self.types if name in value and self._parse(line, name) is None), None)
        if column is None:
            return _malformed(chunk, place, "not JSON")
        found = json.dumps(value[column], ensure_ascii=False)
        return _malformed(chunk, place, f"not {self.types[column]}", column, found)

    def _parse(self, data: bytes, column: str | None = None) -> pa.Table | None:
        """The members of objects, None if one has another type or a line is no object.

        Args:
            data: Lines.
            column: The only member to look at. Default: all.
        """
        schema = pa.schema([(name, kind) for name, kind in self.arrow_types.items() if column in (None, name)])
        num_lines = sum(1 for _ in _lines(data))
        if not num_lines:
            return schema.empty_table()
        table = parse_lines(data, schema)
        if table is None or table.num_rows != num_lines or not all(map(_finite, table.columns)):
            return None
        return table.select(schema.names)


def parse_lines(data: bytes, schema: pa.Schema | None) -> pa.Table | None:
    """JSON lines by Arrow; None if they do not fit.

    Args:
        data: Lines, each of which begins like an object.
        schema: The members to read; None: all, their types inferred.
    """
    options = pajson.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
    )
    read = pajson.ReadOptions(use_threads=False, block_size=len(data) + 64)
    try:
        return pajson.read_json(pa.py_buffer(data), read_options=read, parse_options=options)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None


def infer_types(part: ByteRange) -> pa.Schema:
    """The members of all objects in a part, and the narrowest types that hold them; malformed lines aside.

    Raises:
        DataError: A member has different types in different lines.
    """
    schemas = []
    for chunk in read_chunks(part, cut_at_line_end):
        data = chunk.data
        table = parse_lines(data, None) if _in_order(data) else None
        if table is None:
            good = [data[start:stop] for start, stop in _lines(data) if not _judge(data[start:stop])[0]]
            table = parse_lines(b"\n".join(good), None) if good else pa.table({})
        if table is None:
            raise _mixed(part.path, [found.schema for line in good if (found := parse_lines(line, None)) is not None])
        schemas.append(table.schema)
    return unify_schemas(part.path, schemas)


def find_members(part: ByteRange, wanted: Set[str], *, most_lines: int | None = None) -> set[str]:
    """Those of the wanted members that objects of a part have, whatever their values.

    Args:
        part: What to look through, until all are found.
        wanted: The names.
        most_lines: Look at no more lines than these. Default: at all.
    """
    found: set[str] = set()
    lines = (line for chunk in read_chunks(part, cut_at_line_end) for line in _lines_that_may_have(wanted, chunk.data))
    for line in itertools.islice(lines, most_lines):
        with suppress(ValueError, RecursionError):  # malformed lines are told where the rows are read
            value = json.loads(line)
            found |= wanted & value.keys() if isinstance(value, dict) else set()
        if found == wanted:
            break
    return found


def _lines_that_may_have(wanted: Set[str], data: bytes) -> Iterator[bytes]:
    """All lines of a piece; none where the names stand nowhere in it, plainly or with escapes."""
    names = [json.dumps(name, ensure_ascii=False).encode() for name in wanted]
    if b"\\u" in data or b"\\/" in data or any(name in data for name in names):
        yield from (data[start:stop] for start, stop in _lines(data))


def unify_schemas(path: Path, schemas: list[pa.Schema]) -> pa.Schema:
    """One schema for all: whole numbers give way to fractions; times stay text.

    Raises:
        DataError: There is none.
    """
    schemas = [pa.schema([(field.name, _as_written(field.type)) for field in schema]) for schema in schemas]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise _mixed(path, schemas) from None


def sql_type(kind: pa.DataType) -> str:
    """The SQL type of what was inferred; a member that is always null is text."""
    if pa.types.is_struct(kind):
        return "struct<" + ",".join(f"{field.name}:{sql_type(field.type)}" for field in kind) + ">"
    if pa.types.is_list(kind):
        return f"array<{sql_type(kind.value_type)}>"
    return {pa.bool_(): "boolean", pa.int64(): "bigint", pa.float64(): "double"}.get(kind, "string")


def arrow_json_type(name: str) -> pa.DataType:
    """The Arrow type that a member of a SQL type is parsed as: dates and timestamps are text at first."""
    if name.startswith("array<"):
        return pa.list_(arrow_json_type(name[6:-1]))
    if name.startswith("struct<"):
        members = [member.partition(":") for member in split_struct_fields(name[7:-1])]
        return pa.struct([(field, arrow_json_type(kind)) for field, _, kind in members])
    return pa.string() if name in ("date", "timestamp") else arrow_type(name)


def _as_written(kind: pa.DataType) -> pa.DataType:
    """The type without Arrow's guess that some texts are times."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _as_written(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _mixed(path: Path, schemas: list[pa.Schema]) -> DataError:
    kinds: dict[str, dict[str, None]] = {}
    for name, kind in ((field.name, field.type) for schema in schemas for field in schema):
        if not pa.types.is_null(kind):
            kinds.setdefault(name, {})[sql_type(_as_written(kind))] = None
    mixed = {name: found for name, found in kinds.items() if len(found) > 1 and set(found) != {"bigint", "double"}}
    name, found = next(iter(mixed.items()), ("of some name", {"of several types": None}))
    return DataError(
        f"{path}: the member {name} is {', '.join(found)} in different lines; mend them, or declare `columns` of"
        " the source and set `malformed`"
    )


def _in_order(data: bytes) -> bool:
    """Whether all is UTF-8, each line begins like an object, and nothing that only Arrow takes is in it."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    begin = len(_MARK) if data.startswith(_MARK) else 0
    return not (_NO_OBJECT.search(data[begin:] if begin else data) or _NOT_PLAIN.search(data))


def _lines(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and stop of each line that is not blank; a byte order mark is no part of it."""
    begin = len(_MARK) if data.startswith(_MARK) else 0
    for match in _LINE.finditer(data, begin):
        if match[0].strip(b" \t"):
            yield match.span()


def _finite(column: pa.ChunkedArray) -> bool:
    """Whether a column of numbers holds none that its type cannot."""
    return not pa.types.is_floating(column.type) or pc.all(pc.is_finite(column)).as_py() is not False


def _malformed(
    chunk: RecordChunk, place: tuple[int, int], reason: str, column: str | None = None, found: str = ""
) -> MalformedRecord:
    start, stop = place
    return MalformedRecord(str(chunk.part.path), chunk.line(start), chunk.data[start:stop], reason, column, found)


def _judge(line: bytes) -> tuple[str, Any]:
    """What is wrong with a line by itself, whatever its types; and what it holds."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse, parse_int=_whole, parse_float=_fraction)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair has no encoding
    except UnicodeDecodeError:
        return "not utf-8 text", None
    except (ValueError, RecursionError):
        return "not JSON", None
    return ("", value) if isinstance(value, dict) else ("not an object", None)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _whole(text: str) -> int | str:
    return int(text) if len(text) < 4000 else text  # Python refuses longer ones


def _fraction(text: str) -> float:
    if math.isinf(float(text)):
        raise ValueError(f"{text} is beyond all types")
    return float(text)


def _names_twice(line: bytes) -> bool:
    """Whether an object names a member twice."""
    twice: list[bool] = []
    json.loads(line, object_pairs_hook=lambda pairs: twice.append(len(dict(pairs)) < len(pairs)))
    return any(twice)
