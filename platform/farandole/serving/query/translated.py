"""A translated query: saved in a bundle, loaded by the service, applied to rows of the source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from farandole.errors import DataError, UnavailableError, UserError
from farandole.preprocess import RawForm
from farandole.preprocess.raw_rows import convert_column
from farandole.preprocess.values import arrow_type

FORMAT_VERSION = 1
SQL_FILE, FACTS_FILE, LOOKUP_FOLDER = "query.sql", "query.json", "lookups"
ROWS, ROW_NUMBER = "source_rows", "row_number"
"""The names in the statement of the table of the rows and of its hidden column, which counts them."""
_DEFAULT_MEMORY = "1GiB"


class UntranslatableError(UserError):
    """A query cannot travel with a model: its text or its meaning is beyond what is translated."""


class QueryRows(NamedTuple):
    """The result of a query over some rows of the source.

    Args:
        columns: The query's columns, in the order of the rows.
        rows: int64 `[kept]`: the position of the source row of each result row, ascending.
        excluded: int64 `[excluded]`: the positions of the source rows that the query excludes, ascending.
    """

    columns: pa.Table
    rows: np.ndarray
    excluded: np.ndarray


@dataclass
class TranslatedQuery:
    """A job's query in the SQL of DuckDB, for rows whose label is not known.

    Args:
        sql: The statement.
        source: The source whose rows it takes.
        columns: Needed column of the source to its Spark type.
        aliases: The same columns to their names in the statement.
        forms: The same columns to how the source writes them.
        outputs: Column of the result to its Spark type.
        lookups: Table of the statement to its rows.
        left_out: The conditions of the job's query that are left out because they concern the label alone.
        inexact: The functions in it whose last bit may differ from Spark's.
        memory: The most memory that the engine may use.
        threads: The threads of each execution.
    """

    sql: str
    source: str
    columns: Mapping[str, str]
    aliases: Mapping[str, str]
    forms: Mapping[str, RawForm]
    outputs: Mapping[str, str]
    lookups: Mapping[str, pa.Table]
    left_out: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()
    memory: str = _DEFAULT_MEMORY
    threads: int = 1
    _engine: Any = field(default=None, repr=False, compare=False)

    def raw_batch(self, columns: Mapping[str, Any]) -> pa.RecordBatch:
        """Convert rows of the source, in any form that Python, pandas or JSON gives them, as the source's reader would.

        Args:
            columns: Column to values; None and NaN are missing, and other columns are ignored.

        Raises:
            DataError: A column is missing, or a value does not fit its type.
        """
        arrays = {}
        num_rows = next((len(columns[name]) for name in self.columns if hasattr(columns.get(name), "__len__")), 0)
        for name, kind in self.columns.items():
            form = self.forms.get(name, RawForm())
            if name not in columns and not form.may_be_absent:
                raise DataError(f"column {name}: is missing; the query of the model needs {', '.join(self.columns)}")
            arrays[name] = convert_column(name, columns.get(name, [None] * num_rows), kind, form)
        if len({len(values) for values in arrays.values()}) > 1:
            raise DataError("the columns have different numbers of rows; send equally many of each")
        return pa.record_batch(arrays)

    def apply(self, rows: pa.RecordBatch | pa.Table) -> QueryRows:
        """Execute the query on rows of the source.

        Args:
            rows: At least the needed columns, in the types of `raw_batch`; of a query without any, a column to count.

        Raises:
            DataError: A column is missing or has another type, or a value does not fit; the first such row is named.
        """
        table = self._aliased(rows)
        if self._engine is None:
            self._engine = _engine(self)
        try:
            found = self._run(table)
        except _duckdb().Error:
            position, reason = self._first_failure(table)
            raise DataError(f"row {position}: the model's query fails: {reason}; correct the row") from None
        numbers = found.column(ROW_NUMBER).to_numpy()
        if len(numbers) > 1 and not (numbers[1:] > numbers[:-1]).all():
            order = np.argsort(numbers, kind="stable")
            found, numbers = found.take(pa.array(order)), numbers[order]
        excluded = np.setdiff1d(np.arange(len(table)), numbers) if len(numbers) < len(table) else np.empty(0, np.int64)
        arrays = [found.column(f"o{index}").cast(arrow_type(kind)) for index, kind in enumerate(self.outputs.values())]
        return QueryRows(pa.table(arrays, names=list(self.outputs)), numbers, excluded)

    def _aliased(self, rows: pa.RecordBatch | pa.Table) -> pa.Table:
        arrays, names = [], []
        for name, alias in self.aliases.items():
            if name not in rows.schema.names:
                raise DataError(f"column {name}: is missing; the query of the model needs {', '.join(self.columns)}")
            values, wanted = rows.column(name), arrow_type(self.columns[name])
            if values.type != wanted:
                raise DataError(f"column {name}: is {values.type} and not {wanted}; convert the rows by raw_batch")
            arrays.append(values.cast(pa.timestamp("us")) if pa.types.is_timestamp(wanted) else values)
            names.append(alias)
        numbers = pa.array(np.arange(rows.num_rows, dtype=np.int64))
        return pa.table([*arrays, numbers], names=[*names, ROW_NUMBER])

    def _run(self, table: pa.Table) -> pa.Table:
        return self._engine.run({ROWS: table})

    def _first_failure(self, table: pa.Table) -> tuple[int, str]:
        """Find the first row that makes the statement fail, by halving."""
        begin, end = 0, len(table)
        while end - begin > 1:
            middle = (begin + end) // 2
            begin, end = (begin, middle) if self._failure(table.slice(begin, middle - begin)) else (middle, end)
        return begin, self._failure(table.slice(begin, end - begin)) or "the rows together exceed the memory"

    def _failure(self, table: pa.Table) -> str | None:
        try:
            self._run(table)
        except _duckdb().Error as error:
            return str(error).splitlines()[0].partition("Error: ")[2] or str(error).splitlines()[0]
        return None

    # Files -----------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the query and its lookup tables into a folder."""
        (folder / SQL_FILE).write_text(self.sql + "\n", encoding="utf-8")
        facts = {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "columns": dict(self.columns),
            "aliases": dict(self.aliases),
            "forms": {name: form.to_dict() for name, form in self.forms.items()},
            "outputs": dict(self.outputs),
            "lookups": list(self.lookups),
            "left_out": list(self.left_out),
            "inexact": list(self.inexact),
        }
        (folder / FACTS_FILE).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if self.lookups:
            (folder / LOOKUP_FOLDER).mkdir(exist_ok=True)
        for name, table in self.lookups.items():
            pq.write_table(table, folder / LOOKUP_FOLDER / f"{name}.parquet", compression="zstd", store_schema=True)

    @classmethod
    def load(cls, folder: Path, *, memory: str = _DEFAULT_MEMORY, threads: int = 1) -> TranslatedQuery | None:
        """Load the query of a bundle, whose digests have been checked; None: it has none.

        Args:
            folder: The bundle's directory.
            memory: The most memory that the engine may use.
            threads: The threads of each execution.

        Raises:
            DataError: The query was written by another version, or is not whole.
        """
        if not (folder / FACTS_FILE).exists():
            return None
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            if facts["format_version"] != FORMAT_VERSION:
                raise DataError(
                    f"{folder / FACTS_FILE}: format version {facts['format_version']}, and this program reads"
                    f" {FORMAT_VERSION}; export the model again"
                )
            return cls(
                sql=(folder / SQL_FILE).read_text(encoding="utf-8").rstrip("\n"),
                source=facts["source"],
                columns=facts["columns"],
                aliases=facts["aliases"],
                forms={name: RawForm.from_dict(form) for name, form in facts["forms"].items()},
                outputs=facts["outputs"],
                lookups={name: pq.read_table(folder / LOOKUP_FOLDER / f"{name}.parquet") for name in facts["lookups"]},
                left_out=tuple(facts["left_out"]),
                inexact=tuple(facts["inexact"]),
                memory=memory,
                threads=threads,
            )
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise DataError(f"{folder / FACTS_FILE}: cannot be read ({error}); export the model again") from error


def as_model_columns(columns: pa.Table, types: Mapping[str, str]) -> pa.RecordBatch:
    """Return the query's columns in the types that a model was trained on.

    Args:
        columns: Columns of `QueryRows`.
        types: Needed column to its Spark type in training, where texts may have become numbers or times.

    Raises:
        DataError: A text does not fit.
    """
    arrays = {}
    for name, kind in types.items():
        values = columns.column(name).combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # there are no rows
            values = pa.array([], values.type)
        arrays[name] = values if values.type == arrow_type(kind) else convert_column(name, values, kind)
    return pa.record_batch(arrays)


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise UnavailableError(
            "the model's query needs DuckDB, which is not installed; pip install 'farandole[serve]'"
        ) from error
    return duckdb


def _engine(query: TranslatedQuery) -> Any:
    _duckdb()
    from farandole.serving.query.engine import Engine

    return Engine(query.sql, query.lookups, memory=query.memory, threads=query.threads)
