"""Work that Spark's executors do one task at a time, each of which answers with a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa

from farandole.errors import PreparationError
from farandole.ingest.spark.error_transport import SPARK_ERRORS, ErrorTransport, decode_error, headline
from farandole.ingest.spark.session import start_spark

Task = TypeVar("Task")


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
