"""Parquet files of any number of real flights, in the types of the job `flights`."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from benchmarks.ingest.flights import flights_archive

_TYPES = {
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "sched_arr_time", "flight"), pa.int32()),
    **dict.fromkeys(("carrier", "origin", "dest", "tailnum"), pa.string()),
    "distance": pa.float64(),
    "arr_delay": pa.float64(),
    "time_hour": pa.timestamp("us", tz="UTC"),
}


def write_rows(path: Path, rows: int) -> None:
    """Write the flights of 2013, in their order and again from the first one, until the file is long enough.

    Args:
        path: The file.
        rows: The number of rows.
    """
    with zipfile.ZipFile(flights_archive()) as archive:
        content = archive.read("flights.csv")
    options = pacsv.ConvertOptions(
        column_types=_TYPES, include_columns=list(_TYPES), null_values=["NA", ""], strings_can_be_null=True
    )
    flights = pacsv.read_csv(io.BytesIO(content), convert_options=options).combine_chunks()
    with pq.ParquetWriter(path, flights.schema) as writer:
        for start in range(0, rows, len(flights)):
            writer.write_table(flights.slice(0, rows - start))
