"""Rows of a job's sources, read in this process with the readers that training uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from farandole.errors import DataError
from farandole.ingest.sources.files import SourceFiles, find_files
from farandole.preprocess.raw_rows import convert_column
from farandole.preprocess.values import arrow_type
from farandole.serving.query.translated import UntranslatableError
from farandole.spec import Job, ParquetSource, Source
from farandole.spec.sources import RowSource

if TYPE_CHECKING:
    from farandole.ingest.readers.row_batch import RowReader
    from farandole.ingest.spark.row_frames import Tasks

_LOOK_FURTHER = 100
"""Of up to this many times the wanted rows, evenly spaced ones are taken."""
_ARROW_NAMES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "int",
    pa.uint32(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.date32(): "date",
}


class SourceReader:
    """Reader of one source of a job.

    Args:
        job: The job.
        name: The source's name.

    Raises:
        DataError: Its files are missing, or do not have the declared columns.
    """

    def __init__(self, job: Job, name: str) -> None:
        self._source: Source = job.data.sources[name]
        self._files: SourceFiles = find_files(name, self._source).fetch()
        self._types: dict[str, str] | None = None
        self._name, self._wanted = name, job.data.wanted_source_types

    @property
    def types(self) -> Mapping[str, str]:
        """Column to Spark type. Columns that are not declared are inferred, for which the source is read once."""
        if self._types is None:
            if isinstance(self._source, ParquetSource):
                self._types = self._parquet_types()
            elif isinstance(self._source, RowSource):
                self._types = dict(self._row_reader()[0].types)
        assert self._types is not None
        return self._types

    @property
    def bytes(self) -> int:
        """The size of the source, as it is stored on this machine."""
        return sum(path.stat().st_size for path in self._files.paths)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read the rows, in the order of the files."""
        if isinstance(self._source, ParquetSource):
            yield from self._parquet_batches()
            return
        from farandole.ingest.spark.row_frames import row_function

        reader, tasks = self._row_reader()
        numbers = (pa.record_batch({"id": pa.array([number], pa.int64())}) for number in range(len(tasks)))
        assert isinstance(self._source, RowSource)
        yield from row_function(reader, tasks, strict=self._source.malformed == "fail")(numbers)

    def table(self, max_bytes: int) -> pa.Table:
        """Read all rows.

        Raises:
            UntranslatableError: They are larger than `max_bytes` in memory.
        """
        found, size = [], 0
        for batch in self.batches():
            found.append(batch)
            size += batch.nbytes
            if size > max_bytes:
                raise UntranslatableError(
                    f"{self._name} is a large source (more than {max_bytes >> 20} MiB), which a model cannot carry"
                )
        return pa.Table.from_batches(found, self._schema())

    def sample(self, rows: int) -> pa.Table:
        """Read evenly spaced rows of the first ones, in their order.

        Args:
            rows: The number of rows; fewer if the source has fewer.
        """
        found, count = [], 0
        for batch in self.batches():
            found.append(batch)
            count += len(batch)
            if count >= rows * _LOOK_FURTHER:
                break
        table = pa.Table.from_batches(found, self._schema())
        if len(table) <= rows:
            return table
        return table.take(pa.array(np.linspace(0, len(table) - 1, rows).astype(np.int64)))

    def _schema(self) -> pa.Schema:
        return pa.schema([(name, arrow_type(kind)) for name, kind in self.types.items()])

    def _row_reader(self) -> tuple[RowReader, Tasks]:
        from farandole.ingest.spark.row_frames import make_reader  # imports pyspark

        assert isinstance(self._source, RowSource)
        return make_reader(None, self._name, self._source, self._files, self._wanted)

    def _parquet_types(self) -> dict[str, str]:
        from farandole.ingest.readers.parquet_footers import check_parquet

        source = self._source
        assert isinstance(source, ParquetSource)
        if any("=" in part for path in self._files.paths if self._files.base for part in path.parts[:-1]):
            raise UntranslatableError(
                f"{self._name} has columns in the names of its folders, which a row does not have"
            )
        unreadable = check_parquet(self._name, source, self._files).unreadable
        schema = pq.ParquetFile(self._files.paths[0]).schema
        physical = {column.path: column.physical_type for column in map(schema.column, range(len(schema)))}
        fields = schema.to_arrow_schema()
        names = [name for name in source.columns or fields.names if name not in unreadable]
        return {name: spark_type(fields.field(name).type, physical.get(name) == "INT96") for name in names}

    def _parquet_batches(self) -> Iterator[pa.RecordBatch]:
        names = list(self.types)
        for path in self._files.paths:
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(columns=names):
                        yield typed_rows(batch, self.types)
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{path}: is not a whole Parquet file ({error}); write it again") from error


def typed_rows(batch: pa.RecordBatch, types: Mapping[str, str]) -> pa.RecordBatch:
    """Return columns of a batch in the types that they have in Spark."""
    arrays = []
    for name, kind in types.items():
        values = batch.column(name)
        exact = kind in ("string", "binary") or values.type == arrow_type(kind)
        known = values.cast(arrow_type(kind)) if exact else _converted(name, values, kind)
        arrays.append(known)
    return pa.record_batch(arrays, names=list(types))


def _converted(name: str, values: pa.Array, kind: str) -> pa.Array:
    return convert_column(name, values, kind) if pa.types.is_timestamp(values.type) else values.cast(arrow_type(kind))


def spark_type(kind: pa.DataType, is_int96: bool = False) -> str:
    """Return the type that Spark gives to a column of a Parquet file; a nested or rare one under Arrow's name.

    Args:
        kind: The column's type in Arrow.
        is_int96: Whether it is a timestamp in the old form, which Spark takes for one in UTC.
    """
    if pa.types.is_dictionary(kind):
        return spark_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz or is_int96 else "timestamp_ntz"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"array<{spark_type(kind.value_type)}>"
    return _ARROW_NAMES.get(kind, str(kind))
