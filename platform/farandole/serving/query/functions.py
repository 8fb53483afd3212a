"""Functions that Spark and DuckDB compute alike, or that DuckDB can be made to compute as Spark does.

Each entry was compared with Spark in tests/integration/serving/query/test_semantics.py. A function that is not here is
refused.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from farandole.serving.query.arguments import Arguments, Handler
from farandole.serving.query.casts import cast
from farandole.serving.query.text_functions import TEXT_FUNCTIONS
from farandole.serving.query.time_functions import NAMED_TIME_FUNCTIONS, TIME_FUNCTIONS
from farandole.serving.query.translated import UntranslatableError
from farandole.serving.query.types import (
    FLOATING,
    TIMES,
    WHOLE,
    Typed,
    call,
    cast_to,
    choose,
    derive,
    is_number,
)

UNSTABLE = frozenset(
    [
        "rand",
        "random",
        "randn",
        "randstr",
        "uniform",
        "uuid",
        "shuffle",
        "monotonically_increasing_id",
        "spark_partition_id",
        "current_date",
        "curdate",
        "currentdate",
        "current_timestamp",
        "currenttimestamp",
        "currenttime",
        "now",
        "localtimestamp",
        "current_timezone",
        "unixtimestamp",
        "input_file_name",
    ]
)
"""Functions whose value changes from one evaluation to the next."""


# Numbers -------------------------------------------------------------------------------------------------------------


def _mathematical(
    name: str, *, domain: Callable[[exp.Expression], exp.Expression] | None = None, beyond: str = "NaN"
) -> Callable[[Arguments], Typed]:
    """Return the translation of a function of one float64; it is missing or NaN outside its domain, as in Spark."""

    def translate(arguments: Arguments) -> Typed:
        value = arguments.number(arguments.count(1)[0])
        node: exp.Expression = call(name, value.node)
        if domain is not None:
            other = exp.Null() if beyond == "NULL" else cast_to(exp.Literal.string("NaN"), "double")
            node = choose(domain(value.node), other, node)
        return derive(node, "double", [value], inexact="" if name in _EXACT else name)

    return translate


_EXACT = ("sqrt", "radians", "degrees")
"""Functions whose results IEEE 754, or one multiplication, determines."""


def _not_positive(node: exp.Expression) -> exp.Expression:
    return exp.LTE(this=node.copy(), expression=cast_to(exp.Literal.number(0), "double"))


def _beyond_one(node: exp.Expression) -> exp.Expression:
    return exp.GT(this=call("abs", node), expression=cast_to(exp.Literal.number(1), "double"))


def _infinite(node: exp.Expression) -> exp.Expression:
    return call("isinf", node)


def _log(arguments: Arguments) -> Typed:
    base = arguments.constant(arguments.values[0], "the base")
    if base not in ("2", "10"):
        raise UntranslatableError("log with this base is not translated; write ln(a) / ln(b)")
    value = arguments.number(arguments.named["expression"])
    node = choose(_not_positive(value.node), exp.Null(), call(f"log{base}", value.node))
    return derive(node, "double", [value], inexact=f"log{base}")


def _two_numbers(name: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        first, second = arguments.number(arguments.count(1)[0]), arguments.number(arguments.named["expression"])
        return derive(call(name, first.node, second.node), "double", [first, second], inexact=name)

    return translate


def _abs(arguments: Arguments) -> Typed:
    (value,) = arguments.count(1)
    if value.kind not in (*WHOLE, *FLOATING):
        raise UntranslatableError(f"abs of a {value.kind} is not translated; write CAST to double")
    return derive(call("abs", value.node), value.kind, [value], throws=value.kind in WHOLE)


def _whole_part(name: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        (value,) = arguments.count(1)
        if value.kind in WHOLE:
            return cast(value, "bigint")
        if value.kind not in FLOATING:
            raise UntranslatableError(f"{name} of a {value.kind} is not translated; write CAST to double")
        return derive(cast_to(call(name, cast(value, "double").node), "bigint"), "bigint", [value], throws=True)

    return translate


def _round(arguments: Arguments) -> Typed:
    (value,) = arguments.count(1)
    digits = arguments.named.get("decimals")
    if digits is not None and digits.constant != "0":
        raise UntranslatableError(
            "round to digits behind the point is not translated, because Spark rounds decimal digits and DuckDB binary"
            " ones; remove it: features need no rounding"
        )
    if value.kind in WHOLE:
        return value
    if value.kind != "double":
        raise UntranslatableError(f"round of a {value.kind} is not translated; write CAST to double")
    # Adding 0 turns -0.0 into 0.0, as Spark's decimal digits do.
    rounded = exp.Add(this=call("round", value.node), expression=cast_to(exp.Literal.number(0), "double"))
    return derive(exp.Paren(this=rounded), "double", [value])


def _is_nan(arguments: Arguments) -> Typed:
    (value,) = arguments.count(1)
    if value.kind not in FLOATING:
        raise UntranslatableError(f"isnan of a {value.kind} is not translated")
    return derive(call("coalesce", call("isnan", value.node), exp.false()), "boolean", [value])


def _nanvl(arguments: Arguments) -> Typed:
    first, second = arguments.number(arguments.values[0]), arguments.number(arguments.named["expression"])
    return derive(choose(call("isnan", first.node), second.node, first.node), "double", [first, second])


def _pmod(arguments: Arguments) -> Typed:
    left, right = arguments.count(2)
    if left.kind not in WHOLE or right.kind not in WHOLE or right.constant is None or int(right.constant) <= 0:
        raise UntranslatableError("pmod is translated for whole numbers and a positive literal only")
    left, right = arguments.context.unify([left, right], "pmod")
    rest = exp.Paren(this=exp.Mod(this=left.node.copy(), expression=right.node.copy()))
    shifted = exp.Paren(this=exp.Add(this=rest.copy(), expression=right.node.copy()))
    is_negative = exp.LT(this=rest.copy(), expression=exp.Literal.number(0))
    return derive(choose(is_negative, shifted, rest), left.kind, [left, right])


# Missing values -------------------------------------------------------------------------------------------------------


def _unified(name: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        values = arguments.context.unify(arguments.values, arguments.name)
        if name != "coalesce" and not (is_number(values[0].kind) or values[0].kind in ("string", *TIMES)):
            raise UntranslatableError(f"{arguments.name} of {values[0].kind} is not translated")
        return derive(call(name, *(value.node for value in values)), values[0].kind, values)

    return translate


def _null_if(arguments: Arguments) -> Typed:
    first, second = arguments.values[0], arguments.named["expression"]
    if first.kind != second.kind:
        if not is_number(first.kind) or not is_number(second.kind):
            raise UntranslatableError(f"nullif of {first.kind} and {second.kind} is not translated; write CAST")
        widened = arguments.context.unify([first, second], "nullif")
    else:
        widened = [first, second]
    is_equal = exp.EQ(this=widened[0].node.copy(), expression=widened[1].node.copy())
    return derive(choose(is_equal, exp.Null(), first.node), first.kind, [first, second])


def _nvl2(arguments: Arguments) -> Typed:
    (value,) = arguments.count(1)
    present, missing = arguments.context.unify([arguments.named["true"], arguments.named["false"]], "nvl2")
    is_missing = exp.Is(this=value.node.copy(), expression=exp.Null())
    return derive(choose(is_missing, missing.node, present.node), present.kind, [value, present, missing])


def _is_null(wanted: bool) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        (value,) = arguments.count(1)
        node: exp.Expression = exp.Paren(this=exp.Is(this=value.node.copy(), expression=exp.Null()))
        return derive(node if wanted else exp.Paren(this=exp.Not(this=node)), "boolean", [value])

    return translate


FUNCTIONS: dict[type[exp.Expression], Handler] = {
    exp.Abs: Handler(_abs),
    exp.Ceil: Handler(_whole_part("ceil")),
    exp.Floor: Handler(_whole_part("floor")),
    exp.Round: Handler(_round, ("decimals",)),
    exp.Sqrt: Handler(_mathematical("sqrt")),
    exp.Exp: Handler(_mathematical("exp")),
    exp.Ln: Handler(_mathematical("ln", domain=_not_positive, beyond="NULL")),
    exp.Log: Handler(_log, ("expression",)),
    exp.Pow: Handler(_two_numbers("pow"), ("expression",)),
    exp.Sin: Handler(_mathematical("sin", domain=_infinite)),
    exp.Cos: Handler(_mathematical("cos", domain=_infinite)),
    exp.Tan: Handler(_mathematical("tan", domain=_infinite)),
    exp.Asin: Handler(_mathematical("asin", domain=_beyond_one)),
    exp.Acos: Handler(_mathematical("acos", domain=_beyond_one)),
    exp.Atan: Handler(_mathematical("atan")),
    exp.Atan2: Handler(_two_numbers("atan2"), ("expression",)),
    exp.Radians: Handler(_mathematical("radians")),
    exp.Degrees: Handler(_mathematical("degrees")),
    exp.IsNan: Handler(_is_nan),
    exp.Nanvl: Handler(_nanvl, ("expression",)),
    exp.Coalesce: Handler(_unified("coalesce")),
    exp.Greatest: Handler(_unified("greatest")),
    exp.Least: Handler(_unified("least")),
    exp.Nullif: Handler(_null_if, ("expression",)),
    exp.Nvl2: Handler(_nvl2, ("true", "false")),
    **TEXT_FUNCTIONS,
    **TIME_FUNCTIONS,
}
"""Functions that sqlglot has a class for."""

ANONYMOUS: dict[str, Handler] = {
    "pmod": Handler(_pmod),
    "isnull": Handler(_is_null(True)),
    "isnotnull": Handler(_is_null(False)),
    **NAMED_TIME_FUNCTIONS,
}
"""Functions that sqlglot knows by name alone."""
