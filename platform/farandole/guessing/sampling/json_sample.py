"""Rows of JSON files."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from farandole.errors import DataError
from farandole.guessing.columns import Column
from farandole.guessing.sampling.rows import choose_ranges, describe_malformed, read_rows
from farandole.guessing.sampling.sample import SOURCE, Sample
from farandole.guessing.sampling.typed_texts import type_times
from farandole.ingest.readers.directory_columns import find_directory_columns
from farandole.ingest.readers.json_types import infer_types, inferred_reader, unify_schemas
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import JsonSource


def sample_json(path: str, files: SourceFiles) -> Sample:
    """Read rows of JSON files.

    Args:
        path: The path as the user wrote it.
        files: The files.

    Raises:
        DataError: They hold no objects, or members whose types differ.
    """
    raw: dict[str, Any] = {"format": "json", "path": path}
    source = JsonSource.model_validate(raw)
    schema = json_schema(files)
    reader = inferred_reader(source, schema)
    types = {name: reader.types[name] for name in schema.names}
    directories = find_directory_columns(SOURCE, source, files, {})
    read = read_rows(reader, files.paths, directories, splittable=True)
    notes = []
    if read.malformed:
        raw["malformed"] = "drop"
        notes += [describe_malformed(read)]
    typed = type_times({name: read.column(name) for name, kind in types.items() if kind == "string"})
    types |= {**typed.types, **directories.types}
    found = {column.name: column for column in typed.columns}
    others = (name for name in types if name not in found)
    found |= {name: Column.from_values(name, read.column(name)) for name in others}
    del raw["path"]
    return Sample(
        raw | typed.options,
        tuple(found[name] for name in types),
        types,
        read.is_whole,
        read.estimate,
        (*notes, *typed.notes),
        typed.conversions,
    )


def json_schema(files: SourceFiles) -> pa.Schema:
    """Return the types that the members of JSON files have.

    Raises:
        DataError: No object has a member, or the types of a member differ.
    """
    ranges, _, _ = choose_ranges(files.paths, splittable=True)
    schema = unify_schemas(files.paths[0], [infer_types(byte_range) for byte_range in ranges])
    if not len(schema):
        raise DataError(
            f"{files.paths[0]}: no object holds a member; give a file with one JSON object on each line, or one array"
        )
    return schema
