"""Execution of a job's query on given rows of its sources, as the preparation executes it on all rows."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import types as T

from farandole.errors import DataError
from farandole.ingest.spark.column_names import distinguish_case
from farandole.ingest.spark.error_transport import plain_message
from farandole.ingest.spark.session import spark_session
from farandole.spec import Job


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
