"""`data.expect`: conditions on the rows of the query and the transform.

Each kind of expectation compiles to one SQL predicate over rows and one count of the rows that break it. All counts are
aggregated in a single pass of Spark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from farandole.errors import DataError, closest_match
from farandole.ingest.spark.column_names import NeutralFrame, distinguish_case, neutral_name
from farandole.ingest.spark.error_transport import plain_message
from farandole.privacy import redact
from farandole.spec import Allowed, Condition, Data, Expectation, Nulls, Pattern, Range, Rows, Unique

_MAX_EXAMPLES = 5
_MAX_EXAMPLE_CHARS = 80
_NUMERIC_TYPES = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
_TIME_TYPES = ("date", "timestamp", "timestamp_ntz")
_COUNT = "_farandole_rows"
_REMEDY = "fix the data or the query, allow a share of the rows by `max_share`, or write `on_failure: warn`"


@dataclass(frozen=True)
class ExpectationResult:
    """The outcome of one expectation.

    Args:
        field_path: Its position in the job file.
        expectation: The expectation.
        rule: The expectation in words.
        rows: All rows.
        broken: The number of rows that break it.
        passed: Whether that is few enough.
        examples: Values that break it, each with its number of rows, the most frequent first.
    """

    field_path: str
    expectation: Expectation
    rule: str
    rows: int
    broken: int
    passed: bool
    examples: tuple[tuple[Any, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the manifest's `expectations`."""
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
            return f"{self.field_path}: {self.rule}, and there are {self.rows:,}"
        examples = ", ".join(f"{_format(value)} in {rows:,}" for value, rows in self.examples)
        allowed = f" ({self.expectation.max_share:.2%} may)" if self.expectation.max_share else ""
        found = f"{self.broken:,} of {self.rows:,} rows ({self.broken / self.rows:.2%}) break this{allowed}"
        return f"{self.field_path}: {self.rule}; {found}" + (f": {examples}" if examples else "")


@dataclass(frozen=True)
class _Check:
    """A compiled expectation.

    Args:
        rule: The expectation in words.
        predicate: True for the rows that break it; for uniqueness, for the rows that are compared.
        count: The aggregate that counts the rows that break it.
        columns: The columns whose values are shown as examples.
        min_group: The number of rows with equal values from which on these values are an example.
    """

    rule: str
    predicate: Column
    count: Column
    columns: tuple[str, ...] = ()
    min_group: int = 1


def check_expectations(frame: DataFrame, data: Data, warn: Callable[[str], None]) -> list[ExpectationResult]:
    """Compare rows with all expectations.

    Args:
        frame: The rows, before any privacy policy.
        data: The data part of the job.
        warn: Receives the failed expectations that only warn.

    Raises:
        DataError: An expectation is not met, or cannot be evaluated: its column is missing, or its SQL is wrong.
    """
    if not data.expect:
        return []
    paths = [f"data.expect.{number}" for number in range(len(data.expect))]
    rows, conditions = _with_conditions(frame, dict(zip(paths, data.expect, strict=True)))
    checks = [conditions.get(path) or _compile(rows, path, one) for path, one in zip(paths, data.expect, strict=True)]
    counts = [check.count.alias(str(number)) for number, check in enumerate(checks)]
    counted = rows.frame.agg(F.count(F.lit(1)).alias("rows"), *counts).collect()[0]
    results = []
    for number, (path, check, expectation) in enumerate(zip(paths, checks, data.expect, strict=True)):
        total, broken = counted["rows"], counted[str(number)]
        result = ExpectationResult(path, expectation, check.rule, total, broken, _is_met(expectation, total, broken))
        if broken and check.columns and not any(column in data.privacy.protected for column in check.columns):
            result = replace(result, examples=_examples(rows, check))
        results.append(result)
    failed = [result for result in results if not result.passed]
    fatal = [result for result in failed if result.expectation.on_failure == "fail"]
    if fatal:
        raise DataError("\n".join(f"{result}; {_REMEDY}" for result in fatal))
    for result in failed:
        warn(str(result))
    return results


def _is_met(expectation: Expectation, rows: int, broken: int) -> bool:
    if isinstance(expectation, Rows):
        return (expectation.min or 0) <= rows and (expectation.max is None or rows <= expectation.max)
    return broken <= expectation.max_share * rows


def _with_conditions(
    frame: DataFrame, expectations: Mapping[str, Expectation]
) -> tuple[NeutralFrame, dict[str, _Check]]:
    """Compile the conditions, and evaluate them in further columns: alone of all expectations, they are SQL over names.

    Args:
        frame: The rows.
        expectations: Field path to expectation.

    Returns:
        The rows with the further columns, and the compiled conditions by their field paths.

    Raises:
        DataError: The expression of a condition is wrong.
    """
    distinguish_case(frame.sparkSession, frame.columns)
    values: list[Column] = []
    checks: dict[str, _Check] = {}
    for field_path, expectation in expectations.items():
        if isinstance(expectation, Condition):
            is_broken = ~F.col(neutral_name(len(frame.columns) + len(values)))
            values.append(_condition(frame, field_path, expectation).alias(field_path))
            columns = _referenced_columns(frame, expectation.sql)
            checks[field_path] = _Check(f"{expectation.sql} is expected", is_broken, F.count_if(is_broken), columns)
    return NeutralFrame(frame.select("*", *values)), checks


def _compile(rows: NeutralFrame, field_path: str, expectation: Expectation) -> _Check:
    """Compile an expectation that is not a condition to its predicate and its count.

    Raises:
        DataError: A column is missing, or a bound does not fit its type.
    """
    if isinstance(expectation, Rows):
        rule = f"{_between(expectation.min, expectation.max)} rows are expected"
        return _Check(rule, F.lit(False), F.count_if(F.lit(False)))
    assert not isinstance(expectation, Condition), field_path
    columns = expectation.columns if isinstance(expectation, Unique) else (expectation.column,)
    for column in columns:
        if column not in rows.names:
            close = closest_match(column, list(rows.names))
            hint = f"did you mean {close}?" if close else f"there are {', '.join(rows.names)}"
            raise DataError(f"{field_path}: there is no column {column}; {hint}")
    missing = [_missing(rows, column) for column in columns]
    if isinstance(expectation, Unique):
        present = ~reduce(lambda one, other: one | other, missing)
        groups = F.count_distinct(F.when(present, F.struct(*map(rows.column, columns))))
        rule = f"{', '.join(columns)}: no two rows with the same values are expected"
        return _Check(rule, present, F.count_if(present) - groups, tuple(columns), min_group=2)
    if isinstance(expectation, Nulls):
        rule = f"column {expectation.column}: no missing values are expected"
        return _Check(rule, missing[0], F.count_if(missing[0]))
    wanted, is_right = _value_rule(rows, field_path, expectation)
    predicate = ~missing[0] & ~is_right
    return _Check(f"column {expectation.column}: {wanted}", predicate, F.count_if(predicate), tuple(columns))


def _value_rule(rows: NeutralFrame, field_path: str, expectation: Range | Allowed | Pattern) -> tuple[str, Column]:
    """Return the rule on the values of one column, in words and as a predicate on a value that is not missing."""
    value, session = rows.column(expectation.column), rows.frame.sparkSession
    if isinstance(expectation, Pattern):
        regex = f"^(?:{expectation.regex})\\z"
        try:
            session.range(1).select(F.lit("").rlike(regex)).collect()
        except PySparkException as error:
            raise DataError(
                f"{field_path}.regex: {expectation.regex!r} is not a regular expression of Java; fix it",
                detail=str(error),
            ) from error
        return f"values that match {expectation.regex} are expected", value.cast("string").rlike(regex)
    sql_type = rows.type_of(expectation.column).simpleString()
    if isinstance(expectation, Allowed):
        literals = [_literal(session, f"{field_path}.values", bound, sql_type) for bound in expectation.values]
        shown = ", ".join(_format(bound) for bound in expectation.values[:10])
        more = ", …" if len(expectation.values) > 10 else ""
        return f"one of {shown}{more} is expected", value.isin(*literals)
    is_right = F.lit(True)
    if expectation.min is not None:
        is_right = is_right & (value >= _literal(session, f"{field_path}.min", expectation.min, sql_type))
    if expectation.max is not None:
        is_right = is_right & (value <= _literal(session, f"{field_path}.max", expectation.max, sql_type))
    return f"{_between(expectation.min, expectation.max)} is expected", is_right


def _condition(frame: DataFrame, field_path: str, expectation: Condition) -> Column:
    is_right = F.expr(expectation.sql)
    try:
        selected = frame.select(is_right.alias("is_right"))
    except AnalysisException as error:
        raise DataError(f"{field_path}.sql: {plain_message(str(error))}", detail=str(error)) from error
    sql_type = selected.schema["is_right"].dataType.simpleString()
    if sql_type != "boolean":
        raise DataError(f"{field_path}.sql: gives {sql_type}, neither true nor false; write a comparison")
    return is_right


def _literal(session: SparkSession, field_path: str, bound: Any, sql_type: str) -> Column:
    """Return a bound as a literal that a column can be compared with: a number, a text, or a time written as text.

    Raises:
        DataError: The bound does not fit the column's type.
    """
    is_number = isinstance(bound, int | float) and not isinstance(bound, bool)
    fits = is_number and sql_type.startswith(_NUMERIC_TYPES)
    fits |= isinstance(bound, bool) and sql_type == "boolean"
    fits |= isinstance(bound, str) and sql_type == "string"
    if isinstance(bound, str) and sql_type in _TIME_TYPES:
        fits = session.range(1).select(F.lit(bound).try_cast(sql_type)).collect()[0][0] is not None
    if not fits:
        shown = json.dumps(bound) if isinstance(bound, bool) else repr(bound)
        raise DataError(
            f"{field_path}: {shown} cannot be compared with a column of type {sql_type}; write a value of this type"
        )
    return F.lit(bound) if is_number else F.lit(bound).cast(sql_type)


def _missing(rows: NeutralFrame, column: str) -> Column:
    """Return the predicate of a missing value: null, or NaN, which Spark orders above all numbers."""
    value = rows.column(column)
    floating = rows.type_of(column).simpleString() in ("float", "double")
    return value.isNull() | F.isnan(value) if floating else value.isNull()


def _referenced_columns(frame: DataFrame, sql: str) -> tuple[str, ...]:
    """Return the columns that an expression reads, as Spark resolved it."""
    plan = frame.select(F.expr(sql).alias("value"))._jdf.queryExecution().analyzed()
    found = plan.expressions().head().references().toSeq()
    return tuple(sorted({found.apply(index).name() for index in range(found.size())}))


def _examples(rows: NeutralFrame, check: _Check) -> tuple[tuple[Any, int], ...]:
    """Return the most frequent values that break a rule, with their numbers of rows."""
    named = [rows.column(column) for column in check.columns]
    groups = rows.frame.where(check.predicate).groupBy(*named).agg(F.count(F.lit(1)).alias(_COUNT))
    texts = [column.cast("string").alias(str(number)) for number, column in enumerate(named)]
    order = [F.desc(_COUNT), *(F.col(str(number)) for number in range(len(named)))]
    found = groups.where(F.col(_COUNT) >= check.min_group).select(*texts, _COUNT).orderBy(*order).limit(_MAX_EXAMPLES)
    return tuple((_example(check.columns, row[:-1]), row[-1]) for row in found.collect())


def _example(columns: tuple[str, ...], texts: tuple[str | None, ...]) -> Any:
    """Return a value, or several by column; a text that looks like personal data is replaced by its kind."""
    shown = [None if text is None else redact(text)[:_MAX_EXAMPLE_CHARS] for text in texts]
    return shown[0] if len(columns) == 1 else dict(zip(columns, shown, strict=True))


def _between(low: Any, high: Any) -> str:
    if low is None:
        return f"at most {_format(high)}"
    return f"at least {_format(low)}" if high is None else f"{_format(low)} to {_format(high)}"


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{column} {_format(each)}" for column, each in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
