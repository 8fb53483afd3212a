"""The first rows of a source, read without Spark, for checks that should not wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import COMPRESSED_SUFFIXES, ByteRange, needs_whole_file
from farandole.ingest.readers.csv_headers import check_header
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.json_types import infer_types, inferred_reader
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource, JsonSource, ParquetSource, Source

_BYTES = 2 << 20
"""Bytes of the first file that are read, if it can be read in parts."""


def first_rows(name: str, source: Source, files: SourceFiles, limit: int) -> pa.RecordBatch | None:
    """Return the first rows of a source's first file; all columns of a text file are text.

    Args:
        name: The name of the source.
        source: The source.
        files: Its files.
        limit: The largest number of rows.

    Returns:
        The rows; None if there are none, the source holds no table, or its first rows cannot be read, which the
        preparation reports with the place.
    """
    try:
        return next((batch.slice(0, limit) for batch in _batches(name, source, files, limit) if len(batch)), None)
    except (DataError, OSError, pa.ArrowInvalid):
        return None


def _batches(name: str, source: Source, files: SourceFiles, limit: int) -> Iterator[pa.RecordBatch]:
    if isinstance(source, ParquetSource):
        with pq.ParquetFile(files.paths[0]) as file:
            yield from islice(file.iter_batches(batch_size=limit, use_threads=False), 1)
    elif isinstance(source, CsvSource):
        header = check_header(name, source, files)
        splittable = not source.multiline and not needs_whole_file(source.encoding)
        reader = CsvReader(source, tuple(header), dict.fromkeys(filter(None, header), "string"))
        yield from (rows.batch for rows in reader.read(_start(files, splittable=splittable)))
    elif isinstance(source, JsonSource):
        start = _start(files, splittable=True)
        members = inferred_reader(source, infer_types(start))
        texts = [member for member, kind in members.types.items() if kind == "string"]
        if texts:
            yield from (rows.batch.select(texts) for rows in members.read(start))


def _start(files: SourceFiles, *, splittable: bool) -> ByteRange:
    """Return the first bytes of the first file, or all of a file that can only be read whole."""
    path = files.paths[0]
    is_part = splittable and path.stat().st_size > _BYTES and path.suffix not in COMPRESSED_SUFFIXES
    return ByteRange(path, 0, _BYTES) if is_part else ByteRange(path)
