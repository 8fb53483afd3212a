"""Scoring by the executors of a Spark master, with the functions that score files on one machine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from farandole.bundle import Bundle, open_bundle
from farandole.errors import DataError
from farandole.process.heap import keep_freed_memory
from farandole.serving.score_files import FilePart, divide
from farandole.serving.scoring import DEFAULTS, RowScorer, ScoringOptions, ScoringResult, score_parts

_TASK_ROWS = 1_000_000


@dataclass(frozen=True)
class ScoringTask:
    """The rows that one executor scores at once.

    Args:
        bundle: The model's directory, on a file system that all executors see.
        part: The rows.
        output: The file of their predictions.
        options: How they are scored.
    """

    bundle: str
    part: FilePart
    output: str
    options: ScoringOptions


def score_on_spark(
    master: str, bundle: Bundle, paths: Sequence[Path], output: Path, *, options: ScoringOptions = DEFAULTS
) -> ScoringResult:
    """Write the predictions for files of rows into a directory, whose files are named in the order of the rows.

    Args:
        master: The URL of the master.
        bundle: The model. Its directory, the files and the output have the same paths on all machines.
        paths: CSV and Parquet files. Parquet files are divided by their row groups; a CSV file is one task.
        output: A new directory, for `part-00000.parquet` and so on.
        options: The form of the network, the kept columns, and how wrong rows are handled.

    Raises:
        DataError: The directory exists, a file lacks a column or is damaged, or a row is wrong.
        UnavailableError: Spark cannot start.
    """
    from farandole.ingest.spark.on_demand import run_tasks

    started_s = time.monotonic()
    RowScorer(bundle, options.form, options.keep, options.csv).check(paths)
    parts = divide([path.absolute() for path in paths], _TASK_ROWS)
    try:
        output.mkdir()
    except OSError as error:
        raise DataError(f"{output}: {error.strerror}; with --master, name a new directory") from error
    tasks = [
        ScoringTask(str(bundle.path.absolute()), part, str(output.absolute() / f"part-{number:05}.parquet"), options)
        for number, part in enumerate(parts)
    ]
    result = ScoringResult(str(output))
    for answer in run_tasks(master, tasks, score_task):
        found = json.loads(answer)
        result.rows += found["rows"]
        result.excluded += found["excluded"]
        result.failed += found["failed"]
        result.first_failure = result.first_failure or found["first_failure"]
    result.seconds = time.monotonic() - started_s
    return result


def score_task(task: ScoringTask) -> str:
    """Score the rows of a task in this process.

    Returns:
        The result, as JSON.
    """
    keep_freed_memory()
    scorer = _scorer(task.bundle, task.options)
    result = score_parts(scorer, [task.part], Path(task.output), task.options.on_error, threads=1)
    return json.dumps(result.to_dict())


@lru_cache(maxsize=1)
def _scorer(bundle: str, options: ScoringOptions) -> RowScorer:
    """Load a model once for all tasks of a process."""
    return RowScorer(open_bundle(bundle), options.form, options.keep, options.csv)
