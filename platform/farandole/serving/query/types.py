"""Typed expressions, and Spark's rules for the types of their values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pyarrow as pa
from sqlglot import exp

from farandole.preprocess.values import arrow_type
from farandole.serving.query.translated import UntranslatableError

WHOLE = ("tinyint", "smallint", "int", "bigint")
"""Types of whole numbers, from the narrowest to the widest."""
FLOATING = ("float", "double")
TIMES = ("date", "timestamp", "timestamp_ntz")
_DIGITS = {"tinyint": 3, "smallint": 5, "int": 10, "bigint": 20}
_MAX_DIGITS = 38
_MAX_SIZE = 20_000
"""Nodes of one expression: subqueries are written into the expressions that use them, which may repeat them."""
_DUCKDB = {
    "string": "VARCHAR",
    "binary": "BLOB",
    "int": "INTEGER",
    "timestamp": "TIMESTAMP",
    "timestamp_ntz": "TIMESTAMP",
    "void": "INTEGER",
}
"""DuckDB's names of types, where they are not Spark's. Both kinds of timestamps are microseconds in UTC, as they are
in a Spark session whose time zone is UTC, because DuckDB's type with a zone would need another calendar."""

Base = tuple[str, str]
"""A column of a source: the source's name and the column's."""


@dataclass(frozen=True)
class Typed:
    """An expression of the translated query.

    Args:
        node: The expression, in DuckDB's dialect.
        kind: Its Spark type.
        bases: The columns of sources that it depends on.
        constant: Its value, if it is a literal of text or a number (as it is written).
        throws: Whether its evaluation may fail.
        inexact: The functions in it whose last bit differs between mathematical libraries.
    """

    node: exp.Expression
    kind: str
    bases: frozenset[Base] = frozenset()
    constant: str | None = None
    throws: bool = False
    inexact: frozenset[str] = field(default_factory=frozenset)


def derive(
    node: exp.Expression, kind: str, parts: Iterable[Typed], *, throws: bool = False, inexact: str = ""
) -> Typed:
    """Return an expression that was made from others.

    Raises:
        UntranslatableError: It became too large.
    """
    parts = tuple(parts)
    if sum(1 for _ in node.walk()) > _MAX_SIZE:
        raise UntranslatableError("an expression repeats others until it is too large; write it in simpler steps")
    return Typed(
        node,
        kind,
        frozenset().union(*(part.bases for part in parts)),
        throws=throws or any(part.throws for part in parts),
        inexact=frozenset({inexact} - {""}).union(*(part.inexact for part in parts)),
    )


def duckdb_type(kind: str) -> exp.DataType:
    """Return DuckDB's type for the values of a Spark type.

    Raises:
        UntranslatableError: It has none here.
    """
    inner = re.fullmatch(r"array<(.+)>", kind)
    if inner:
        return exp.DataType.build(f"{duckdb_type(inner[1]).sql('duckdb')}[]", dialect="duckdb")
    if kind not in _DUCKDB and kind not in ("boolean", "tinyint", "smallint", "bigint", "float", "double", "date"):
        if not is_decimal(kind):
            raise UntranslatableError(f"values of type {kind} are not translated; read their parts in the source")
        return exp.DataType.build(kind, dialect="duckdb")
    return exp.DataType.build(_DUCKDB.get(kind, kind), dialect="duckdb")


def boundary_type(kind: str) -> pa.DataType:
    """Return the Arrow type in which values of a Spark type enter and leave DuckDB."""
    wanted = arrow_type(kind)
    return pa.timestamp("us") if pa.types.is_timestamp(wanted) else wanted


def is_decimal(kind: str) -> bool:
    """Return whether a type is a decimal number."""
    return kind.startswith("decimal(")


def is_number(kind: str) -> bool:
    """Return whether a type is a number."""
    return kind in WHOLE or kind in FLOATING or is_decimal(kind)


def decimal_digits(kind: str) -> tuple[int, int]:
    """Return the digits of a whole or decimal number: all, and those behind the point."""
    if kind in WHOLE:
        return _DIGITS[kind], 0
    precision, scale = re.findall(r"\d+", kind)
    return int(precision), int(scale)


def common_type(kinds: Iterable[str]) -> str | None:
    """Return the type that values of several types have together in Spark's ANSI mode; None: it is not certain."""
    found = list(dict.fromkeys(kind for kind in kinds if kind != "void"))
    if not found:
        return "void"
    result = found[0]
    for kind in found[1:]:
        common = _common_of_two(result, kind)
        if common is None:
            return None
        result = common
    return result


def _common_of_two(first: str, second: str) -> str | None:
    if first == second:
        return first
    kinds = {first, second}
    if kinds == {"date", "timestamp"}:
        return "timestamp"
    if not (is_number(first) and is_number(second)):
        return None
    if "double" in kinds:
        return "double"
    if "float" in kinds:
        return "double"
    if first in WHOLE and second in WHOLE:
        return max(first, second, key=WHOLE.index)
    (digits, scale), (other_digits, other_scale) = decimal_digits(first), decimal_digits(second)
    whole, scale = max(digits - scale, other_digits - other_scale), max(scale, other_scale)
    return f"decimal({whole + scale},{scale})" if whole + scale <= _MAX_DIGITS else None


def widen(value: Typed, kind: str) -> Typed:
    """Convert a value to a wider type of numbers or times, or a missing value to any type; nothing is lost."""
    if value.kind == kind:
        return value
    node = exp.Cast(this=value.node.copy(), to=duckdb_type(kind))
    if kind == "double" and is_decimal(value.kind) and value.constant is not None:
        node = exp.Cast(this=exp.Literal.string(value.constant), to=duckdb_type(kind))
    return replace(value, node=node, kind=kind)


def call(name: str, *arguments: exp.Expression) -> exp.Anonymous:
    """Return a call of one of DuckDB's functions."""
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def choose(condition: exp.Expression, value: exp.Expression, otherwise: exp.Expression) -> exp.Case:
    """Return the expression `CASE WHEN condition THEN value ELSE otherwise END`, which evaluates only one of them."""
    return exp.Case(ifs=[exp.If(this=condition.copy(), true=value.copy())], default=otherwise.copy())


def fail(text: str) -> exp.Anonymous:
    """Return an expression whose evaluation fails with a constant text."""
    return call("error", exp.Literal.string(text))


def cast_to(node: exp.Expression, kind: str) -> exp.Cast:
    """Return a cast to DuckDB's type of a Spark type."""
    return exp.Cast(this=node.copy(), to=duckdb_type(kind))


def integer(number: int) -> exp.Expression:
    """Return a whole number."""
    return exp.Paren(this=exp.Neg(this=exp.Literal.number(-number))) if number < 0 else exp.Literal.number(number)
