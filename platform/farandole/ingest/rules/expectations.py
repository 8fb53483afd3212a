"""`data.expect`: what must be true of the rows. All rules of single rows are counted in one pass of Spark."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from farandole.errors import DataError, closest_match
from farandole.ingest.spark.dataframes import plain_message
from farandole.ingest.spark.sql_quoting import quote_identifier
from farandole.privacy import redact
from farandole.spec import Allowed, Condition, Data, Expectation, Nulls, Pattern, Range, Rows, Unique

_MOST_EXAMPLES = 5
_LONGEST_EXAMPLE = 80
_NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
_TIMES = ("date", "timestamp", "timestamp_ntz")
_COUNT = "_farandole_rows"
_REMEDY = "mend the data or the query, allow a share of the rows by `max_share`, or write `on_failure: warn`"


@dataclass(frozen=True)
class _Found:
    """What came out for one expectation.

    Args:
        place: Where the job file has it.
        expectation: What was asked.
        rows: All rows.
        broken: How many of them break it.
        passed: Whether that is few enough.
        examples: Values that break it, each with its number of rows, the most frequent first.
    """

    place: str
    expectation: Expectation
    rows: int
    broken: int
    passed: bool
    examples: tuple[tuple[Any, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "expected": self.expectation.model_dump(mode="json", exclude_none=True),
            "passed": self.passed,
            "rows": self.rows,
            "broken": self.broken,
            "share": self.broken / self.rows if self.rows else 0.0,
            "examples": [{"value": value, "rows": rows} for value, rows in self.examples],
        }

    def __str__(self) -> str:
        if isinstance(self.expectation, Rows):
            return f"{self.place}: {_rule(self.expectation)}, and there are {self.rows:,}"
        examples = ", ".join(f"{_shown(value)} in {rows:,}" for value, rows in self.examples)
        allowed = f" ({self.expectation.max_share:.2%} may)" if self.expectation.max_share else ""
        found = f"{self.broken:,} of {self.rows:,} rows ({self.broken / self.rows:.2%}) break this{allowed}"
        return f"{self.place}: {_rule(self.expectation)}; {found}" + (f": {examples}" if examples else "")


def check_expectations(frame: DataFrame, data: Data, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """Compare the rows of the query and the transform with all expectations.

    Args:
        frame: The rows, before any policy.
        data: The data part of the job.
        warn: Is told of those that only warn.

    Returns:
        What the manifest keeps: for each expectation what was asked and found.

    Raises:
        DataError: An expectation is not met, or cannot be judged: its column is missing, its SQL is wrong.
    """
    if not data.expect:
        return []
    found = [_with_examples(frame, one, data) for one in _count(frame, data.expect)]
    failed = [one for one in found if not one.passed]
    refused = [one for one in failed if one.expectation.on_failure == "fail"]
    if refused:
        raise DataError("\n".join(f"{one}; {_REMEDY}" for one in refused))
    for one in failed:
        warn(str(one))
    return [one.to_dict() for one in found]


def _count(frame: DataFrame, expectations: tuple[Expectation, ...]) -> list[_Found]:
    """How many rows break each expectation: one pass for all, and one for each uniqueness."""
    places = [f"data.expect.{number}" for number in range(len(expectations))]
    broken = [_broken(frame, place, one) for place, one in zip(places, expectations, strict=True)]
    counts = [F.count_if(rule).alias(str(number)) for number, rule in enumerate(broken) if rule is not None]
    counted = frame.agg(F.count(F.lit(1)).alias("rows"), *counts).collect()[0]
    rows = counted["rows"]
    found = []
    for number, (place, one) in enumerate(zip(places, expectations, strict=True)):
        if isinstance(one, Rows):
            passed = (one.min is None or rows >= one.min) and (one.max is None or rows <= one.max)
            found.append(_Found(place, one, rows, 0, passed))
        else:
            many = _repeated(frame, one) if isinstance(one, Unique) else counted[str(number)]
            found.append(_Found(place, one, rows, many, many <= one.max_share * rows))
    return found


def _broken(frame: DataFrame, place: str, expectation: Expectation) -> Column | None:
    """Whether a row breaks an expectation; None where one row does not tell.

    Raises:
        DataError: A column is missing, a bound does not fit its type, or the expression is wrong.
    """
    for column in _named(expectation):
        if column not in frame.columns:
            close = closest_match(column, frame.columns)
            hint = f"did you mean {close}?" if close else f"there are {', '.join(frame.columns)}"
            raise DataError(f"{place}: there is no column {column}; {hint}")
    if isinstance(expectation, Unique | Rows):
        return None
    if isinstance(expectation, Condition):
        return ~_condition(frame, place, expectation)
    missing = _missing(frame, expectation.column)
    if isinstance(expectation, Nulls):
        return missing
    return ~missing & ~_right(frame, place, expectation)


def _right(frame: DataFrame, place: str, expectation: Range | Allowed | Pattern) -> Column:
    """Whether a value that is there is right."""
    value = F.col(quote_identifier(expectation.column))
    if isinstance(expectation, Pattern):
        whole = f"^(?:{expectation.regex})\\z"
        try:
            frame.sparkSession.range(1).select(F.lit("").rlike(whole)).collect()
        except PySparkException as error:
            raise DataError(
                f"{place}.regex: {expectation.regex!r} is not a regular expression of Java; mend it",
                detail=str(error),
            ) from error
        return value.cast("string").rlike(whole)
    kind = frame.schema[expectation.column].dataType.simpleString()
    if isinstance(expectation, Allowed):
        return value.isin(*(_literal(frame, f"{place}.values", bound, kind) for bound in expectation.values))
    right = F.lit(True)
    if expectation.min is not None:
        right = right & (value >= _literal(frame, f"{place}.min", expectation.min, kind))
    if expectation.max is not None:
        right = right & (value <= _literal(frame, f"{place}.max", expectation.max, kind))
    return right


def _condition(frame: DataFrame, place: str, expectation: Condition) -> Column:
    right = F.expr(expectation.sql)
    try:
        made = frame.select(right.alias("right"))
    except AnalysisException as error:
        raise DataError(f"{place}.sql: {plain_message(str(error))}", detail=str(error)) from error
    kind = made.schema["right"].dataType.simpleString()
    if kind != "boolean":
        raise DataError(f"{place}.sql: gives {kind}, neither true nor false; write a comparison")
    return right


def _literal(frame: DataFrame, place: str, bound: Any, kind: str) -> Column:
    """A bound as a column can be compared with it: a number, a text, or a time written as text.

    Raises:
        DataError: It does not fit the column's type.
    """
    number = isinstance(bound, int | float) and not isinstance(bound, bool)
    fits = number and kind.startswith(_NUMBERS)
    fits |= isinstance(bound, bool) and kind == "boolean"
    fits |= isinstance(bound, str) and kind == "string"
    if isinstance(bound, str) and kind in _TIMES:
        fits = frame.sparkSession.range(1).select(F.lit(bound).try_cast(kind)).collect()[0][0] is not None
    if not fits:
        shown = json.dumps(bound) if isinstance(bound, bool) else repr(bound)
        raise DataError(f"{place}: {shown} cannot be compared with a column of type {kind}; write such a value")
    return F.lit(bound) if number else F.lit(bound).cast(kind)


def _missing(frame: DataFrame, column: str) -> Column:
    """Null, or NaN, which for Spark is a number greater than all others."""
    value = F.col(quote_identifier(column))
    floating = frame.schema[column].dataType.simpleString() in ("float", "double")
    return value.isNull() | F.isnan(value) if floating else value.isNull()


def _repeated(frame: DataFrame, expectation: Unique) -> int:
    """How many rows are too many: all but one of each group."""
    too_many = F.coalesce(F.sum(F.col(_COUNT) - 1), F.lit(0))
    return int(_repeated_groups(frame, expectation).agg(too_many).collect()[0][0])


def _repeated_groups(frame: DataFrame, expectation: Unique) -> DataFrame:
    present = ~F.lit(False)
    for column in expectation.columns:
        present = present & ~_missing(frame, column)
    return _grouped(frame.where(present), list(expectation.columns)).where(F.col(_COUNT) > 1)


def _grouped(frame: DataFrame, columns: list[str]) -> DataFrame:
    return frame.groupBy(*(F.col(quote_identifier(column)) for column in columns)).agg(F.count(F.lit(1)).alias(_COUNT))


def _with_examples(frame: DataFrame, found: _Found, data: Data) -> _Found:
    """The same with the most frequent values that break the rule, unless a policy protects them."""
    expectation = found.expectation
    if not found.broken or isinstance(expectation, Nulls | Rows):
        return found
    columns = _referenced(frame, expectation) if isinstance(expectation, Condition) else _named(expectation)
    if any(column in data.privacy.protected for column in columns):
        return found
    if isinstance(expectation, Unique):
        groups = _repeated_groups(frame, expectation)
    else:
        broken = _broken(frame, found.place, expectation)
        assert broken is not None
        groups = _grouped(frame.where(broken), columns)
    texts = [F.col(quote_identifier(column)).cast("string").alias(str(number)) for number, column in enumerate(columns)]
    order = [F.desc(_COUNT), *(F.col(str(number)) for number in range(len(columns)))]
    rows = groups.select(*texts, _COUNT).orderBy(*order).limit(_MOST_EXAMPLES).collect()
    return replace(found, examples=tuple((_example(columns, row[:-1]), row[-1]) for row in rows))


def _example(columns: list[str], texts: tuple[str | None, ...]) -> Any:
    """A value, or several by column; what looks like personal data is named instead of shown."""
    shown = [None if text is None else redact(text)[:_LONGEST_EXAMPLE] for text in texts]
    return shown[0] if len(columns) == 1 else dict(zip(columns, shown, strict=True))


def _referenced(frame: DataFrame, expectation: Condition) -> list[str]:
    """The columns that an expression reads, as Spark resolved it."""
    plan = frame.select(F.expr(expectation.sql).alias("right"))._jdf.queryExecution().analyzed()
    found = plan.expressions().head().references().toSeq()
    return sorted({found.apply(index).name() for index in range(found.size())})


def _named(expectation: Expectation) -> list[str]:
    """The columns that an expectation names."""
    if isinstance(expectation, Unique):
        return list(expectation.columns)
    return [] if isinstance(expectation, Rows | Condition) else [expectation.column]


def _rule(expectation: Expectation) -> str:
    """What was expected, in words."""
    if isinstance(expectation, Range):
        return f"column {expectation.column}: {_between(expectation.min, expectation.max)} is expected"
    if isinstance(expectation, Allowed):
        values = ", ".join(_shown(value) for value in expectation.values[:10])
        more = ", …" if len(expectation.values) > 10 else ""
        return f"column {expectation.column}: one of {values}{more} is expected"
    if isinstance(expectation, Pattern):
        return f"column {expectation.column}: values that match {expectation.regex} are expected"
    if isinstance(expectation, Nulls):
        return f"column {expectation.column}: no missing values are expected"
    if isinstance(expectation, Condition):
        return f"{expectation.sql} is expected"
    if isinstance(expectation, Unique):
        return f"{', '.join(expectation.columns)}: no two rows with the same values are expected"
    return f"{_between(expectation.min, expectation.max)} rows are expected"


def _between(low: Any, high: Any) -> str:
    if low is None:
        return f"at most {_shown(high)}"
    return f"at least {_shown(low)}" if high is None else f"{_shown(low)} to {_shown(high)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{column} {_shown(each)}" for column, each in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
