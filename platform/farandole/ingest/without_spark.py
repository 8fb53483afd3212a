"""Preparation of a small source in this process: the same bytes as with Spark, without its ten seconds of Java.

It runs the very functions that Spark's Python workers run; only their scheduling and the hashes of rows, which Spark
computes in Java, are different here. Whatever it cannot do is left to Spark, before anything is written.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.ingest.row_hashes import HASHED_TYPES, moments, partition_columns, time_bounds
from farandole.ingest.rules.pipeline import RowPipeline
from farandole.ingest.rules.spark_failures import explain_packed
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.partitioning import (
    ORDER,
    RESERVED_PREFIX,
    SPLIT,
    check_time_type,
    no_time_error,
    split_counts,
)
from farandole.ingest.spark.passes import fit_by, plan_shards, splits_of
from farandole.ingest.spark.row_frames import Tasks, make_reader, row_function
from farandole.ingest.spark.tasks import PassStatistics, deal_to_shards, observe_rows, pack_rows, write_shards
from farandole.preprocess import Preprocessing, find_losses
from farandole.privacy import Secret
from farandole.shards import ShardInfo
from farandole.spec import CsvSource, Job, Split
from farandole.storage import parse_location


class NotPossibleError(Exception):
    """Only Spark can prepare this job."""


@dataclass(frozen=True)
class PreparedRows:
    """The outcome of the passes over the rows.

    Args:
        preprocessing: The preprocessing, fitted.
        statistics: The statistics of the observed columns.
        splits: The shards of each split.
        warnings: What the user should know about the rows, if it has not been reported yet.
    """

    preprocessing: Preprocessing
    statistics: dict[str, dict[str, Any]]
    splits: dict[str, tuple[ShardInfo, ...]]
    warnings: tuple[str, ...] = ()


def prepare_rows(
    job: Job, files: Mapping[str, SourceFiles], pipeline: RowPipeline, secret: Secret | None, scratch: Path
) -> PreparedRows:
    """Read, fit and write.

    Args:
        job: The job, which does not need Spark.
        files: The files of its source.
        pipeline: The rules of the job.
        secret: The key of the shards.
        scratch: A directory for packed rows.

    Raises:
        NotPossibleError: The columns are not those of a job for this process.
        FarandoleError: Something is wrong with the source or the job.
        OSError: A file cannot be read or written.
    """
    try:
        return _prepare_rows(job, files, pipeline, secret, scratch)
    except RuntimeError as error:
        explained = explain_packed(str(error), None, job, files)
        if explained is None:
            raise  # not an error of the job, but a fault of the program
        raise explained from error


def _prepare_rows(
    job: Job, files: Mapping[str, SourceFiles], pipeline: RowPipeline, secret: Secret | None, scratch: Path
) -> PreparedRows:
    data = job.data
    (name, source), found = next(iter(data.sources.items())), next(iter(files.values()))
    assert isinstance(source, CsvSource)
    reader, tasks = make_reader(None, name, source, found, data.wanted_source_types)
    used = sorted(data.used_columns)
    types = {column: reader.types.get(column, "") for column in used}
    _check_columns(types, data.wanted_types)
    unfitted = Preprocessing.from_spec(data).with_types(types)
    inspected = pipeline.inspected_types(types)
    read = row_function(reader, tasks, strict=True)
    bounds = _time_bounds(read(_numbers(tasks)), types, data.split)
    batches = (_with_partition_columns(batch, used, data.split, bounds) for batch in read(_numbers(tasks)))
    rows, seen = _unpack_statistics(pack_rows(unfitted, inspected, scratch)(batches))
    pipeline.check_findings(seen.detector)
    counts = split_counts(seen.split_rows, data.split)
    preprocessing, statistics = fit_by(lambda partly: _observe(rows, partly), unfitted, seen.observations)
    warnings = tuple(find_losses(preprocessing, seen.observations))
    directory = parse_location(data.output)
    plan = plan_shards(preprocessing, counts, data.shards)
    pieces = deal_to_shards(preprocessing, plan.shards_of_split, scratch)(rows)
    write = write_shards(preprocessing, directory, plan.positions, plan.block_rows, secret)
    written = [row for batch in write(pieces) for row in batch.to_pylist()]
    return PreparedRows(preprocessing, statistics, splits_of(written, plan, counts), warnings)


def _check_columns(types: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    for column, kind in types.items():
        if kind not in HASHED_TYPES or column.lower().startswith(RESERVED_PREFIX):
            raise NotPossibleError(column)
        if kind == "string" and column in wanted:
            raise NotPossibleError(column)  # Spark converts it


def _numbers(tasks: Tasks) -> Iterator[pa.RecordBatch]:
    """Yield what Spark hands to the task of each number."""
    for number in range(len(tasks)):
        yield pa.record_batch({"id": pa.array([number], pa.int64())})


def _time_bounds(rows: Iterator[pa.RecordBatch], types: Mapping[str, str], split: Split) -> tuple[float, float] | None:
    """Read all rows for the bounds of a split by time; None: another rule splits the rows.

    Raises:
        DataError: The column holds neither times nor numbers, or no value at all.
    """
    if split.time is None:
        return None
    check_time_type(split, types[split.time])
    bounds = time_bounds(np.concatenate([np.empty(0), *(moments(batch.column(split.time)) for batch in rows)]), split)
    if bounds is None:
        raise no_time_error(split)
    return bounds


def _with_partition_columns(
    batch: pa.RecordBatch, used: list[str], split: Split, bounds: tuple[float, float] | None
) -> pa.RecordBatch:
    """Select the columns of the dataset, in the form in which Spark hands them on, and add the partition columns."""
    columns = [_as_spark_does(batch.column(column)) for column in used]
    selected = pa.record_batch(columns, names=used)
    first, second, index = partition_columns(selected, split, bounds)
    return pa.record_batch([*columns, first, second, index], names=[*used, *ORDER, SPLIT])


def _as_spark_does(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):  # -0.0 becomes 0.0
        values = column.to_numpy(zero_copy_only=False) + 0
        return pa.array(values, column.type, mask=column.is_null().to_numpy(zero_copy_only=False), from_pandas=False)
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC"))
    return column


def _unpack_statistics(packed: Iterator[pa.RecordBatch]) -> tuple[list[pa.RecordBatch], PassStatistics]:
    """Separate packed rows from the statistics of the pass that packed them."""
    rows, seen = [], PassStatistics()
    for batch in packed:
        statistics = batch.column("seen")[0].as_py()
        if statistics is None:
            rows.append(batch.select(["rows"]))
        else:
            seen.merge(pickle.loads(statistics))
    return rows, seen


def _observe(rows: list[pa.RecordBatch], preprocessing: Preprocessing) -> PassStatistics:
    seen = PassStatistics()
    for batch in observe_rows(preprocessing)(rows):
        seen.merge(pickle.loads(batch.column("seen")[0].as_py()))
    return seen
