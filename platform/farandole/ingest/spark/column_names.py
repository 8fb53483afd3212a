"""Names of columns, kept out of Spark's name resolution: users choose them, and Spark parses them.

Spark splits a name at dots, reads backticks as quotes and `*` as all columns, and takes `Age` for `age`; pyspark's
`mapInArrow` looks each column up by its name. So each operation on columns of users renames them by position first, to
`c0`, `c1`, …, and restores their names in its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

BatchFunction = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""Function that runs in Spark's Python workers, for `mapInArrow`."""

_CASE_SENSITIVE = "spark.sql.caseSensitive"


def neutral_name(position: int) -> str:
    """Return the name that Spark receives for the column at a position."""
    return f"c{position}"


class NeutralFrame:
    """A frame whose columns have neutral names, and the names that they had.

    Args:
        frame: A frame whose columns have any names; of columns with the same name, the first one has it.
    """

    def __init__(self, frame: DataFrame) -> None:
        self.names = tuple(frame.columns)
        self.frame = frame.toDF(*map(neutral_name, range(len(self.names))))
        self._positions = {name: position for position, name in reversed(list(enumerate(self.names)))}

    def neutral(self, name: str) -> str:
        """Return the neutral name of a column; it needs no quotes in SQL."""
        return neutral_name(self._positions[name])

    def column(self, name: str) -> Column:
        """Return a column as an expression over `frame`."""
        return F.col(self.neutral(name))

    def type_of(self, name: str) -> T.DataType:
        """Return the type of a column."""
        return self.frame.schema[self._positions[name]].dataType

    def restore(self, frame: DataFrame, *added: str) -> DataFrame:
        """Return a frame with the same columns, and perhaps some behind them, under their own names.

        Args:
            frame: A frame that was made from `frame`.
            added: The names of the columns behind them.
        """
        return frame.toDF(*self.names, *added)


def map_in_arrow(frame: DataFrame, function: BatchFunction, schema: str | T.StructType) -> DataFrame:
    """Apply a function to Arrow batches of a frame whose columns have any names.

    Args:
        frame: The frame.
        function: The function; its batches have the frame's names.
        schema: The schema of its result.
    """
    rows = NeutralFrame(frame)
    return rows.frame.mapInArrow(_renaming(function, rows.names), schema)


def named_frame(frame: DataFrame, function: BatchFunction, types: Sequence[tuple[str, str | T.DataType]]) -> DataFrame:
    """Apply a function that makes rows whose columns have any names.

    Args:
        frame: The frame.
        function: The function; its batches, and those that it yields, have their own names.
        types: Name and type of each column that it yields, in order.
    """
    kinds = [T.DataType.fromDDL(kind) if isinstance(kind, str) else kind for _, kind in types]
    schema = T.StructType([T.StructField(neutral_name(position), kind) for position, kind in enumerate(kinds)])
    neutral = [neutral_name(position) for position in range(len(types))]

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in function(batches):
            yield batch.rename_columns(neutral)

    return map_in_arrow(frame, work, schema).toDF(*(name for name, _ in types))


def distinguish_case(session: SparkSession, names: Iterable[str]) -> None:
    """Let Spark distinguish upper from lower case in this session, if there are names that differ in nothing else."""
    if session.conf.get(_CASE_SENSITIVE) == "true":
        return
    distinct = set(names)
    for fold in (str.lower, str.upper, str.casefold):
        if any(count > 1 for count in Counter(map(fold, distinct)).values()):
            session.conf.set(_CASE_SENSITIVE, "true")


def _renaming(function: BatchFunction, names: tuple[str, ...]) -> BatchFunction:
    """Return the function for batches whose columns have neutral names."""

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return function(batch.rename_columns(list(names)) for batch in batches)

    return work
