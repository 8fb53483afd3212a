"""Spark outside of a preparation: a job's query on given rows, and tasks of other packages on executors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import types as T

from farandole.errors import DataError, PreparationError
from farandole.ingest.spark.column_names import distinguish_case
from farandole.ingest.spark.error_transport import (
    SPARK_ERRORS,
    ErrorTransport,
    decode_error,
    headline,
    plain_message,
)
from farandole.ingest.spark.session import spark_session, start_spark
from farandole.spec import Job

Task = TypeVar("Task")


def run_query(
    job: Job, tables: Mapping[str, pa.Table], types: Mapping[str, Mapping[str, str]]
) -> tuple[pa.Table, dict[str, str]]:
    """Execute the query of a job by Spark.

    Args:
        job: The job; it has a query.
        tables: Source to its rows.
        types: Source to column to its SQL type.

    Returns:
        The rows of the result, in no order, and the SQL type of each column.

    Raises:
        DataError: Spark rejects the query, or fails on a row.
        UnavailableError: Spark cannot start.
    """
    assert job.data.query is not None
    with spark_session(job, is_small=True) as session:
        distinguish_case(session, tables)
        for name, table in tables.items():
            distinguish_case(session, table.column_names)
            schema = T.StructType()
            for column, kind in types[name].items():
                schema = schema.add(column, T.DataType.fromDDL(kind))
            session.createDataFrame(table, schema).createOrReplaceTempView(name)
        try:
            frame = session.sql(job.data.query)
            return frame.toArrow(), dict(frame.dtypes)
        except PySparkException as error:
            raise DataError(f"data.query: {plain_message(str(error))}", detail=str(error)) from error


def run_tasks(master: str, tasks: Sequence[Task], work: Callable[[Task], str]) -> list[str]:
    """Run tasks on the executors of a Spark master.

    Args:
        master: Its URL.
        tasks: What each task receives; it is pickled.
        work: The function that runs for each; so is it.

    Returns:
        The texts, in the order of the tasks; of a task that ran several times, the text of the run that Spark kept.

    Raises:
        UnavailableError: Spark cannot start.
        FarandoleError: A task failed.
    """

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    yield pa.record_batch({"number": pa.array([number]), "answer": pa.array([work(tasks[number])])})

    session = start_spark(master=master)
    try:
        frame = session.range(0, len(tasks), 1, len(tasks)).mapInArrow(run, "number bigint, answer string")
        answers = {row["number"]: row["answer"] for row in frame.collect()}
    except SPARK_ERRORS as error:
        known = decode_error(str(error))
        if known is not None:
            raise known from error
        raise PreparationError(f"{master}: Spark gave up ({headline(str(error))})", detail=str(error)) from error
    finally:
        session.stop()
    return [answers[number] for number in range(len(tasks))]
