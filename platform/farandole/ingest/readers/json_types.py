"""Types of the members of JSON objects that are not declared: the narrowest that keep every value.

An integer beyond bigint becomes text with its digits; one that a double would round, beside fractions, is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange, RecordChunk
from farandole.ingest.readers.json_arrays import read_json_chunks
from farandole.ingest.readers.json_reader import JsonReader, check_line, is_well_formed, line_spans, parse_lines
from farandole.ingest.readers.lossless_types import NUMBER
from farandole.preprocess.values import arrow_type
from farandole.spec import JsonSource, split_struct_fields

_DIGITS = pa.decimal128(38, 0)
"""The Arrow type of integers beyond bigint."""
_WIDE = b"wide"
"""Metadata of a field: the paths of its integers that a double would round, as JSON."""
_EXACT = 2.0**53
"""Doubles hold each integer up to this one, which the next one is rounded to."""
_MAX_DIGITS = 300
"""Integers of more digits may be beyond every double."""


def infer_types(byte_range: ByteRange) -> pa.Schema:
    """Infer the members of all objects in a byte range, with the narrowest types; malformed lines are ignored.

    Raises:
        DataError: A member has different types in different lines, or no type keeps its values.
    """
    schemas = []
    for chunk in read_json_chunks(byte_range):
        data = chunk.data
        table = parse_lines(data, None) if is_well_formed(data) else None
        if table is None:
            good = [data[start:stop] for start, stop in line_spans(data) if not check_line(data[start:stop])[0]]
            data = b"\n".join(good)
            table = parse_lines(data, None) if good else pa.table({})
        if table is None:
            parsed = (parse_lines(line, None) for line in good)
            raise _mixed_types(byte_range.path, [found.schema for found in parsed if found is not None])
        fields = (_exact_field(chunk, data, name, table.column(name)) for name in table.column_names)
        schemas.append(pa.schema(fields))
    return unify_schemas(byte_range.path, schemas)


def unify_schemas(path: Path, schemas: list[pa.Schema]) -> pa.Schema:
    """Unify schemas: whole numbers give way to fractions, and times stay text.

    Raises:
        DataError: A member has types that cannot be unified without loss.
    """
    if not schemas:
        return pa.schema([])  # empty files and arrays
    schemas = [
        pa.schema([pa.field(field.name, _as_written(field.type), metadata=field.metadata) for field in schema])
        for schema in schemas
    ]
    wide: dict[str, set[str]] = {}
    for field in (field for schema in schemas for field in schema):
        wide.setdefault(field.name, set()).update(json.loads((field.metadata or {}).get(_WIDE, b"[]")))
    try:
        unified = pa.unify_schemas([_with_digits(schema, schemas) for schema in schemas], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise _mixed_types(path, schemas) from None
    for field in unified:
        for member, kind in _leaves(field.name, field.type):
            if member in wide[field.name] and kind not in (pa.int64(), _DIGITS):
                raise _inexact(str(path), member, "an integer beyond 2^53 or so")
    fields = [field.with_metadata({_WIDE: json.dumps(sorted(wide[field.name])).encode()}) for field in unified]
    return pa.schema(fields)


def inferred_reader(source: JsonSource, schema: pa.Schema, wanted: Mapping[str, str] | None = None) -> JsonReader:
    """Return the reader of members with inferred types.

    Args:
        source: The source.
        schema: The inferred members.
        wanted: Member to the SQL type that it becomes if it is text.
    """
    fields = sorted(schema, key=lambda field: field.name)
    types = {field.name: sql_type(field.type) for field in fields}
    arrow_types = {
        field.name: field.type if field.type == _DIGITS else arrow_json_type(types[field.name]) for field in fields
    }
    used = {name: kind for name, kind in (wanted or {}).items() if kind != NUMBER}
    chosen = {name: used.get(name, kind) if kind == "string" else kind for name, kind in types.items()}
    return JsonReader(source, chosen, arrow_types)


def _exact_field(chunk: RecordChunk, data: bytes, name: str, column: pa.ChunkedArray) -> pa.Field:
    """Return the field of a parsed member, whose numbers the type holds exactly.

    Args:
        chunk: The chunk.
        data: Those of its lines that are well-formed.
        name: The member.
        column: Its values, as Arrow infers them.

    Raises:
        DataError: No type does.
    """
    kind, values = column.type, column.combine_chunks()
    wide = sorted({path for path, leaf in _leaf_values(name, values) if _is_wide(leaf)})
    if any(_type_of(path, name, kind) == pa.float64() for path in wide):
        if kind == pa.float64() and _are_integers(chunk, data, name):
            kind = _DIGITS
        else:
            _check_exact(chunk, name)
            wide = [path for path in wide if _type_of(path, name, kind) != pa.float64()]
    return pa.field(name, kind, metadata={_WIDE: json.dumps(wide).encode()})


def _is_wide(values: pa.Array) -> bool:
    """Return whether numbers may be integers that a double does not hold."""
    if not (pa.types.is_int64(values.type) or pa.types.is_float64(values.type)) or len(values) == values.null_count:
        return False
    bounds = pc.min_max(values).as_py()
    return bool(max(abs(bounds["min"]), abs(bounds["max"])) >= _EXACT)


def _leaf_values(path: str, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Yield the path and the values of each member inside of structs and lists."""
    if pa.types.is_struct(values.type):
        for field, inner in zip(values.type, values.flatten(), strict=True):
            yield from _leaf_values(f"{path}.{field.name}", inner)
    elif pa.types.is_list(values.type):
        yield from _leaf_values(f"{path}[]", values.flatten())
    else:
        yield path, values


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Yield the path and the type of each member inside of structs and lists."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{path}[]", kind.value_type)
    else:
        yield path, kind


def _type_of(path: str, name: str, kind: pa.DataType) -> pa.DataType:
    return dict(_leaves(name, kind))[path]


def _check_exact(chunk: RecordChunk, name: str) -> None:
    """Check that doubles hold the integers of a member, in a chunk with numbers so large that they may not.

    Raises:
        DataError: They do not.
    """
    for start, stop in line_spans(chunk.data):
        line = chunk.data[start:stop]
        if check_line(line)[0]:
            continue
        rounded = next(_rounded_integers(json.loads(line, parse_int=_Integer).get(name)), None)
        if rounded is not None:
            raise _inexact(f"{chunk.byte_range.path}: line {chunk.line_number(start)}", name, rounded)


def _are_integers(chunk: RecordChunk, data: bytes, name: str) -> bool:
    """Return whether all values of a member are written as integers; Arrow takes `1e20` and `5.0` for integers too."""
    if parse_lines(data, pa.schema([(name, _DIGITS)])) is None:
        return False
    fraction = re.escape(json.dumps(name, ensure_ascii=False).encode()) + rb"[ \t]*:[ \t]*-?[0-9]+[.eE]"
    if name.isalnum() and name.isascii() and rb"\u00" not in data and not re.search(fraction, data):
        return True
    lines = (chunk.data[start:stop] for start, stop in line_spans(chunk.data))
    values = (json.loads(line, parse_int=_Integer).get(name) for line in lines if not check_line(line)[0])
    return not any(isinstance(value, float) for value in values)


class _Integer(str):
    """The digits of an integer."""


def _rounded_integers(value: Any) -> Iterator[str]:
    """Yield the first digits of the integers in a value that a double rounds."""
    if isinstance(value, _Integer):
        if len(value) > _MAX_DIGITS or int(float(value)) != int(value):
            yield value[:40]
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _rounded_integers(inner)


def _inexact(position: str, name: str, found: str) -> DataError:
    return DataError(
        f"{position}: the member {name} holds {found}, which a double would round, as other values need one; declare"
        " `columns` of the source (decimal(p,s) keeps digits, double rounds), or write such integers in quotes"
    )


def _with_digits(schema: pa.Schema, schemas: list[pa.Schema]) -> pa.Schema:
    """Return a schema in which the integers are text that are text in another schema."""
    big = {field.name for other in schemas for field in other if field.type == _DIGITS}
    return pa.schema(
        [(field.name, _DIGITS if field.name in big and field.type == pa.int64() else field.type) for field in schema]
    )


def sql_type(kind: pa.DataType) -> str:
    """Return the SQL type of an inferred type; integers beyond bigint and a member that is always null are text."""
    if pa.types.is_struct(kind):
        return "struct<" + ",".join(f"{field.name}:{sql_type(field.type)}" for field in kind) + ">"
    if pa.types.is_list(kind):
        return f"array<{sql_type(kind.value_type)}>"
    return {pa.bool_(): "boolean", pa.int64(): "bigint", pa.float64(): "double"}.get(kind, "string")


def arrow_json_type(name: str) -> pa.DataType:
    """Return the Arrow type that a member of a SQL type is parsed as: dates and timestamps are text at first."""
    if name.startswith("array<"):
        return pa.list_(arrow_json_type(name[6:-1]))
    if name.startswith("struct<"):
        members = [member.partition(":") for member in split_struct_fields(name[7:-1])]
        return pa.struct([(field, arrow_json_type(kind)) for field, _, kind in members])
    return pa.string() if name in ("date", "timestamp") else arrow_type(name)


def _as_written(kind: pa.DataType) -> pa.DataType:
    """Return the type without Arrow's guess that some texts are times."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _as_written(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _mixed_types(path: Path, schemas: list[pa.Schema]) -> DataError:
    kinds: dict[str, dict[str, None]] = {}
    for name, kind in ((field.name, field.type) for schema in schemas for field in schema):
        if not pa.types.is_null(kind):
            shown = "bigint" if kind == _DIGITS else sql_type(_as_written(kind))
            kinds.setdefault(name, {})[shown] = None
    mixed = {name: found for name, found in kinds.items() if len(found) > 1 and set(found) != {"bigint", "double"}}
    name, found = next(iter(mixed.items()), ("of some name", {"of several types": None}))
    return DataError(
        f"{path}: the member {name} is {', '.join(found)} in different lines; fix them, or declare `columns` of"
        " the source and set `malformed`"
    )
