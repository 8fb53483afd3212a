"""Predictions for files of any size: read, query, preprocessing, network and write, in blocks of constant memory."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from farandole.bundle import Bundle
from farandole.errors import DataError, UserError
from farandole.events import EventHandler, Progress, ignore_event
from farandole.serving.csv_rows import CsvOptions, csv_format, line_of_row, source_of_rows
from farandole.serving.query import TranslatedQuery, as_model_columns
from farandole.serving.score_files import (
    FilePart,
    RowBlock,
    check_files,
    count_rows,
    is_parquet,
    read_blocks,
    row_writer,
)

OnError = Literal["fail", "null"]
CSV_OPTIONS = CsvOptions()


@dataclass(frozen=True)
class ScoringOptions:
    """Choices for a scoring.

    Args:
        form: The form of the network. Default: the bundle's.
        keep: Columns of the rows that stand beside the predictions.
        on_error: Whether a wrong row is an error, or has missing predictions and is counted.
        threads: Threads that compute. Default: the processor's cores that this process may use.
        csv: How CSV files are written, where it is not as the job's source declares.
    """

    form: str | None = None
    keep: tuple[str, ...] = ()
    on_error: OnError = "fail"
    threads: int | None = None
    csv: CsvOptions = CSV_OPTIONS


DEFAULTS = ScoringOptions()


@dataclass
class ScoringResult:
    """The outcome of a scoring.

    Args:
        output: The file of predictions.
        rows: The rows of all files.
        excluded: Rows that the model's query excludes, whose predictions are missing.
        failed: Rows with a wrong value, whose predictions are missing.
        seconds: The time that it took.
        first_failure: The file, row and reason of the first of these rows.
    """

    output: str
    rows: int = 0
    excluded: int = 0
    failed: int = 0
    seconds: float = 0.0
    first_failure: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result document of `farandole predict --json`."""
        rate = self.rows / self.seconds if self.seconds else 0.0
        return {
            "output": self.output,
            "rows": self.rows,
            "excluded": self.excluded,
            "failed": self.failed,
            "first_failure": self.first_failure,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(rate, 1),
        }


@dataclass(frozen=True)
class ScoredBlock:
    """Predictions for the rows of a block.

    Args:
        batch: A row for each row of the block: the kept columns and the predictions.
        excluded: The number of rows that the query excludes.
        failures: Position in the block and reason of each wrong row.
    """

    batch: pa.RecordBatch
    excluded: int = 0
    failures: tuple[tuple[int, str], ...] = ()


@dataclass
class RowScorer:
    """A model's query, preprocessing and network on blocks of rows. Threads may use it at the same time.

    Args:
        bundle: The model.
        form: The form of the network. Default: the bundle's.
        keep: Columns of the rows that stand beside the predictions.
        csv: How CSV files are written, where it is not as the job's source declares.
    """

    bundle: Bundle
    form: str | None = None
    keep: Sequence[str] = ()
    csv: CsvOptions = CSV_OPTIONS

    def __post_init__(self) -> None:
        self._query = TranslatedQuery.load(self.bundle.path)
        self._predictor = self.bundle.predictor(self.form)
        self._preprocessing = self.bundle.preprocessing
        self._types = {name: self._preprocessing.types[name] for name in self._preprocessing.columns}
        forms = self._query.forms if self._query is not None else self.bundle.row_forms
        self.columns = tuple(self._query.columns) if self._query is not None else tuple(self._types)
        """The columns of the rows that the model needs."""
        self.optional = frozenset(name for name, form in forms.items() if form.may_be_absent)
        """Those of them that rows may lack."""
        source = self._query.source if self._query is not None else source_of_rows(self.bundle)
        self.csv_format = csv_format(self.bundle, source, self.csv)
        """The form of CSV files: separator, encoding, null values, header."""
        empty = self._predictor.predictions(self._predictor.outputs(self._features_of_nothing()))
        clash = sorted(set(self.keep) & set(empty))
        if clash:
            raise UserError(f"--keep {clash[0]}: the predictions have a column of this name; rename it in the file")
        self._empty = {name: _arrow(values) for name, values in empty.items()}

    def score(self, rows: pa.RecordBatch, on_error: OnError = "fail") -> ScoredBlock:
        """Return the predictions for rows, in their order.

        Args:
            rows: Rows of the source, or of the query's columns if the model has no query.
            on_error: Whether a wrong row is an error, or has missing predictions.

        Raises:
            DataError: A row is wrong; the text begins with its position among the rows.
        """
        excluded, failures = 0, []
        parts: list[dict[str, pa.Array]] = []
        for position, values, left_out in self._attempts(rows, 0, on_error):
            if isinstance(values, str):
                failures.append((position, values))
                parts.append({name: pa.nulls(1, empty.type) for name, empty in self._empty.items()})
            else:
                parts.append(values)
                excluded += left_out
        columns = {name: pa.concat_arrays([part[name] for part in parts]) for name in self._empty}
        kept = {name: rows.column(name) for name in self.keep}
        return ScoredBlock(pa.record_batch({**kept, **columns}), excluded, tuple(failures))

    def _attempts(
        self, rows: pa.RecordBatch, first: int, on_error: OnError
    ) -> Iterator[tuple[int, dict[str, pa.Array] | str, int]]:
        """Yield position, predictions and excluded rows of parts; a wrong row, found by halving, yields a text."""
        try:
            values, excluded = self._predict(rows)
        except DataError as error:
            if len(rows) <= 1 and on_error == "null":
                yield first, _plain(error), 0
                return
            if len(rows) <= 1:
                raise _WrongRowError(first, _plain(error)) from error
            half = len(rows) // 2
            yield from self._attempts(rows.slice(0, half), first, on_error)
            yield from self._attempts(rows.slice(half), first + half, on_error)
            return
        yield first, values, excluded

    def _predict(self, rows: pa.RecordBatch) -> tuple[dict[str, pa.Array], int]:
        columns = {name: rows.column(name) for name in self.columns if name in rows.schema.names}
        if self._query is None:
            batch = self._preprocessing.raw_batch(columns, self.bundle.row_forms)
            positions = None
        else:
            found = self._query.apply(self._query.raw_batch(columns))
            batch = as_model_columns(found.columns, self._types)
            positions = found.rows if len(found.excluded) else None
        outputs = self._predictor.outputs(self._predictor.features(batch))
        values = {name: _arrow(part) for name, part in self._predictor.predictions(outputs).items()}
        if positions is None:
            return values, 0
        indices = np.full(len(rows), -1)
        indices[positions] = np.arange(len(positions))
        taken = pa.array(indices, mask=indices < 0)
        return {name: part.take(taken) for name, part in values.items()}, len(rows) - len(positions)

    @property
    def needed(self) -> list[str]:
        """The columns of the rows that are read."""
        return list(dict.fromkeys((*self.columns, *self.keep)))

    def check(self, paths: Sequence[Path]) -> None:
        """Check that files have the needed columns; see `check_files`."""
        check_files(paths, self.needed, self.optional - set(self.keep), csv=self.csv_format)
        if self.csv.given and all(map(is_parquet, paths)):
            raise UserError(f"{self.csv.given[0]}: has no effect, since no file is CSV; leave it out")

    def _features_of_nothing(self) -> dict[str, np.ndarray]:
        nothing: dict[str, list[Any]] = {name: [] for name in self._types}
        return self._predictor.features(self._preprocessing.raw_batch(nothing))

    def schema(self, rows: pa.Schema | None) -> pa.Schema:
        """Return the schema of the predictions for rows of a schema; None: there are no rows."""
        kept = [pa.field(name, pa.string()) if rows is None else rows.field(name) for name in self.keep]
        return pa.schema([*kept, *(pa.field(name, values.type) for name, values in self._empty.items())])


class _WrongRowError(DataError):
    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"row {position}: {reason}")
        self.position, self.reason = position, reason


def _plain(error: DataError) -> str:
    """Return the text of an error without the position in a part of the rows."""
    text = str(error)
    return text.removeprefix("row 0: ")


def _arrow(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.string()) if values.dtype == object else pa.array(values)


def score_files(
    bundle: Bundle,
    paths: Sequence[Path],
    output: Path,
    *,
    options: ScoringOptions = DEFAULTS,
    on_event: EventHandler = ignore_event,
) -> ScoringResult:
    """Write the predictions for files of rows, in the order of the rows.

    Args:
        bundle: The model.
        paths: CSV and Parquet files: rows of the source, or of the query's columns if the model has no query.
        output: A Parquet or CSV file.
        options: The form of the network, the kept columns, and how wrong rows are handled.
        on_event: Receives the progress.

    Raises:
        DataError: A file lacks a column or is damaged, or a row is wrong; the text names the file and the row.
    """
    scorer = RowScorer(bundle, options.form, options.keep, options.csv)
    scorer.check(paths)
    threads = options.threads or len(os.sched_getaffinity(0))
    return score_parts(scorer, [FilePart(path) for path in paths], output, options.on_error, threads, on_event)


def score_parts(
    scorer: RowScorer,
    parts: Sequence[FilePart],
    output: Path,
    on_error: OnError,
    threads: int,
    on_event: EventHandler = ignore_event,
) -> ScoringResult:
    """Write the predictions for parts of files, which have been checked; see `score_files`."""
    started_s = time.monotonic()
    result, total = ScoringResult(str(output)), count_rows(parts)
    blocks = read_blocks(parts, scorer.needed, csv=scorer.csv_format)
    first = next(blocks, None)
    schema = scorer.schema(first.rows.schema if first is not None else None)
    with _one_torch_thread(), row_writer(output, schema) as writer, ThreadPoolExecutor(1) as writing:
        pending: Future[None] | None = None
        for block, scored in _in_order(scorer, _chain(first, blocks), on_error, threads):
            _count(result, scorer, block, scored)
            if pending is not None:
                pending.result()
            pending = writing.submit(writer.write_batch, scored.batch.cast(schema))
            elapsed_s = time.monotonic() - started_s
            on_event(Progress("predict", result.rows, total, "rows", "scoring", result.rows / max(elapsed_s, 1e-9)))
        if pending is not None:
            pending.result()
    result.seconds = time.monotonic() - started_s
    return result


def _in_order(
    scorer: RowScorer, blocks: Iterable[RowBlock], on_error: OnError, threads: int
) -> Iterator[tuple[RowBlock, ScoredBlock]]:
    """Score blocks by several threads, and yield results in the order of the blocks; one block is read ahead."""
    waiting: deque[tuple[RowBlock, Future[ScoredBlock]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for block in blocks:
                waiting.append((block, pool.submit(_score, scorer, block, on_error)))
                if len(waiting) > threads + 1:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _score(scorer: RowScorer, block: RowBlock, on_error: OnError) -> ScoredBlock:
    try:
        return scorer.score(block.rows, on_error)
    except _WrongRowError as error:
        where = _position(scorer, block, error.position)
        raise DataError(f"{where}: {error.reason}; fix it, or use --on-error null") from error


def _position(scorer: RowScorer, block: RowBlock, position: int) -> str:
    """Return the file, and the line of a row of a block, or its number if the file is not text."""
    row = block.first_row + position
    line = None if is_parquet(block.path) else line_of_row(block.path, scorer.csv_format, row)
    return f"{block.path}: row {row + 1:,}" if line is None else f"{block.path}: line {line:,}"


def _count(result: ScoringResult, scorer: RowScorer, block: RowBlock, scored: ScoredBlock) -> None:
    result.rows += len(scored.batch)
    result.excluded += scored.excluded
    result.failed += len(scored.failures)
    if scored.failures and result.first_failure is None:
        position, reason = scored.failures[0]
        result.first_failure = f"{_position(scorer, block, position)}: {reason}"


def _chain(first: RowBlock | None, others: Iterator[RowBlock]) -> Iterator[RowBlock]:
    if first is not None:
        yield first
    yield from others


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let each thread compute a block of its own: results then depend on nothing but their rows."""
    import torch

    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(kept)
