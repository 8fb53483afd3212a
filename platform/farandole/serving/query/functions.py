"""Functions that Spark and DuckDB compute alike, or that DuckDB can be made to compute as Spark does.

Each entry was compared with Spark in tests/integration/serving/query/test_semantics.py. A function that is not here is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlglot import exp

from farandole.serving.query.casts import cast
from farandole.serving.query.patterns import check_pattern, like_pattern, matches_empty, time_pattern
from farandole.serving.query.types import (
    FLOATING,
    TIMES,
    WHOLE,
    Typed,
    UntranslatableError,
    call,
    cast_to,
    choose,
    derive,
    fail,
    integer,
    is_number,
    widen,
)

UNSTABLE = frozenset(
    "rand random randn randstr uniform uuid shuffle monotonically_increasing_id spark_partition_id current_date curdate"
    " currentdate current_timestamp currenttimestamp currenttime now localtimestamp current_timezone unixtimestamp"
    " input_file_name".split()
)
"""Functions whose value changes from one evaluation to the next."""
_CASED = "[\\x{0}-\\x{de}\\x{e0}-\\x{12f}\\x{132}-\\x{148}\\x{14a}-\\x{17e}\\x{400}-\\x{481}]*"
"""Characters whose upper and lower case both engines agree about: Latin and Cyrillic letters, and all of ASCII."""


class Context(Protocol):
    """The translator, as functions see it."""

    def unify(self, values: Sequence[Typed], name: str) -> list[Typed]:
        """Return values with their common type."""


@dataclass(frozen=True)
class Arguments:
    """The translated arguments of a function.

    Args:
        name: The function's name.
        values: Its arguments, in order.
        named: Further arguments by sqlglot's names.
        plain: Arguments that are words or flags.
        context: The translator.
    """

    name: str
    values: Sequence[Typed]
    named: Mapping[str, Typed]
    plain: Mapping[str, Any]
    context: Context

    def count(self, least: int, most: int | None = None) -> Sequence[Typed]:
        """Return the arguments.

        Raises:
            UntranslatableError: There are fewer or more.
        """
        if not least <= len(self.values) <= (most or least):
            raise UntranslatableError(f"{self.name} with {len(self.values)} arguments is not translated")
        return self.values

    def text(self, value: Typed) -> Typed:
        """Return an argument as text, as Spark casts it.

        Raises:
            UntranslatableError: It cannot become text.
        """
        return cast(value, "string")

    def number(self, value: Typed) -> Typed:
        """Return an argument as a double.

        Raises:
            UntranslatableError: It is not a number.
        """
        if not is_number(value.kind) and value.kind != "void":
            raise UntranslatableError(f"{self.name} of a {value.kind} is not translated; write CAST to double")
        return cast(value, "double")

    def time(self, value: Typed, kind: str = "timestamp") -> Typed:
        """Return an argument as a date or a timestamp.

        Raises:
            UntranslatableError: It is neither.
        """
        if value.kind not in TIMES:
            raise UntranslatableError(f"{self.name} of a {value.kind} is not translated; write CAST to {kind}")
        return cast(value, kind)

    def constant(self, value: Typed | None, what: str) -> str:
        """Return an argument that must be a literal.

        Raises:
            UntranslatableError: It is an expression.
        """
        if value is None or value.constant is None:
            raise UntranslatableError(f"{self.name}: {what} is not a literal, and is not translated")
        return value.constant

    def made(self, node: exp.Expression, kind: str, *, throws: bool = False, inexact: str = "") -> Typed:
        """Return the result."""
        return derive(node, kind, [*self.values, *self.named.values()], throws=throws, inexact=inexact)


@dataclass(frozen=True)
class Handler:
    """Translation of one function.

    Args:
        translate: Makes the result from the arguments.
        names: The arguments that sqlglot names, apart from `this` and `expressions`.
    """

    translate: Callable[[Arguments], Typed]
    names: tuple[str, ...] = ()


# Numbers -------------------------------------------------------------------------------------------------------------


def _mathematical(name: str, *, domain: Callable[[exp.Expression], exp.Expression] | None = None, beyond: str = "NaN"):  # type: ignore[no-untyped-def]
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


# Missing values --------------------------------------------------------------------------------------------------------


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


# Texts -----------------------------------------------------------------------------------------------------------------


def _concat(arguments: Arguments) -> Typed:
    values = [arguments.text(value) for value in [*arguments.values, *arguments.named.values()]]
    node = values[0].node.copy()
    for value in values[1:]:
        node = exp.DPipe(this=node, expression=value.node.copy())
    return derive(exp.Paren(this=node), "string", values)


def _concat_ws(arguments: Arguments) -> Typed:
    values = [arguments.text(value) for value in arguments.values]
    if len(values) < 2:
        raise UntranslatableError("concat_ws without values is not translated")
    return derive(call("concat_ws", *(value.node for value in values)), "string", values)


def _cased(name: str) -> Callable[[Arguments], Typed]:
    """Return the translation of upper or lower: a text with rare letters, whose case is disputed, is an error."""

    def translate(arguments: Arguments) -> Typed:
        value = arguments.text(arguments.count(1)[0])
        is_common = call("regexp_full_match", value.node, exp.Literal.string(_CASED.replace("*", "*")))
        is_missing = exp.Is(this=value.node.copy(), expression=exp.Null())
        checked = choose(is_common, call(name, value.node), fail(f"{name}: a text has letters of rare alphabets"))
        return derive(choose(is_missing, exp.Null(), checked), "string", [value], throws=True)

    return translate


def _trim(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    position = str(arguments.plain.get("position") or "BOTH").upper()
    name = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[position]
    return derive(call(name, value.node, exp.Literal.string(" ")), "string", [value])


def _text_to_number(name: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        value = arguments.text(arguments.count(1)[0])
        return derive(cast_to(call(name, value.node), "int"), "int", [value])

    return translate


def _substring(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    start = int(arguments.constant(arguments.named.get("start"), "the position"))
    length = arguments.named.get("length")
    if start < 0 and length is not None:
        raise UntranslatableError("substring from the end with a length is not translated; use right")
    if start < 0:
        return derive(call("right", value.node, integer(-start)), "string", [value])
    parts = [value.node, integer(max(start, 1))]
    if length is not None:
        parts.append(integer(max(0, int(arguments.constant(length, "the length")))))
    return derive(call("substring", *parts), "string", [value])


def _side(name: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        value = arguments.text(arguments.count(1)[0])
        length = max(0, int(arguments.constant(arguments.named.get("expression"), "the length")))
        return derive(call(name, value.node, integer(length)), "string", [value])

    return translate


def _texts(name: str, kind: str = "boolean") -> Callable[[Arguments], Typed]:
    """Return the translation of a function of texts, all of whose arguments are texts."""

    def translate(arguments: Arguments) -> Typed:
        values = [arguments.text(value) for value in [*arguments.values, *arguments.named.values()]]
        node = call(name, *(value.node for value in values))
        return derive(cast_to(node, kind) if kind == "int" else node, kind, values)

    return translate


def _pad(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    length = int(arguments.constant(arguments.named.get("expression"), "the length"))
    fill = arguments.named.get("fill_pattern")
    text = " " if fill is None else arguments.constant(fill, "the fill")
    if length < 0 or not text:
        raise UntranslatableError("lpad and rpad to a negative length, or with an empty text, are not translated")
    name = "lpad" if arguments.plain.get("is_left") else "rpad"
    return derive(call(name, value.node, integer(length), exp.Literal.string(text)), "string", [value])


def _like(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = like_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    made = exp.Like(this=value.node.copy(), expression=exp.Literal.string(pattern))
    return derive(exp.Paren(this=made), "boolean", [value])


def _matches(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = check_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    return derive(call("regexp_matches", value.node, exp.Literal.string(pattern)), "boolean", [value])


def _extract(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = check_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    group = arguments.named.get("group")
    number = 1 if group is None else int(arguments.constant(group, "the group"))
    if number < 0 or number > pattern.count("("):
        raise UntranslatableError(f"regexp_extract: the pattern has no group {number}")
    return derive(call("regexp_extract", value.node, exp.Literal.string(pattern), integer(number)), "string", [value])


def _replace_pattern(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = check_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    text = arguments.constant(arguments.named.get("replacement"), "the replacement")
    if matches_empty(pattern) or pattern.endswith("\\z") or "\\" in text or "$" in text:
        raise UntranslatableError(
            "regexp_replace is translated for patterns that match at least a character, without $ at the end, and for"
            " replacements without groups only"
        )
    parts = [exp.Literal.string(part) for part in (pattern, text, "g")]
    return derive(call("regexp_replace", value.node, *parts), "string", [value])


# Times -----------------------------------------------------------------------------------------------------------------


def _part(name: str, *, of_day: bool = False, shift: int = 0) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        value = arguments.time(arguments.count(1)[0], "timestamp" if of_day else "date")
        node: exp.Expression = call(name, value.node)
        if shift:
            node = exp.Paren(this=exp.Add(this=node, expression=integer(shift)))
        return derive(cast_to(node, "int"), "int", [value])

    return translate


def _to_date(arguments: Arguments) -> Typed:
    """Translate to_date, and the conversion that sqlglot writes into functions of dates."""
    (value,) = arguments.count(1)
    return cast(value, "date")


def _date_diff(arguments: Arguments) -> Typed:
    end, start = arguments.time(arguments.values[0], "date"), arguments.time(arguments.named["expression"], "date")
    difference = exp.Paren(this=exp.Sub(this=end.node.copy(), expression=start.node.copy()))
    return derive(cast_to(difference, "int"), "int", [end, start])


def _date_add(arguments: Arguments) -> Typed:
    day, days = arguments.time(arguments.values[0], "date"), arguments.named["expression"]
    if days.kind not in ("tinyint", "smallint", "int") or str(arguments.plain.get("unit", "DAY")).upper() != "DAY":
        raise UntranslatableError(f"date_add of {days.kind} is not translated")
    moved = exp.Paren(this=exp.Add(this=day.node.copy(), expression=widen(days, "int").node.copy()))
    return derive(moved, "date", [day, days], throws=True)


_UNITS = {"yyyy": "year", "yy": "year", "mon": "month", "mm": "month"} | {
    unit: unit for unit in ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
}


def _truncate(kind: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        value, unit = arguments.time(arguments.count(1)[0], kind), arguments.plain.get("unit")
        text = unit.name if unit is not None else arguments.constant(arguments.named.get("unit"), "the unit")
        name = _UNITS.get(text.lower())
        if name is None or (kind == "date" and name in ("day", "hour", "minute", "second")):
            raise UntranslatableError(f"the unit {text!r} of {arguments.name} is not translated")
        truncated = call("date_trunc", exp.Literal.string(name), value.node)
        return derive(cast_to(truncated, kind), kind, [value])

    return translate


def _last_day(arguments: Arguments) -> Typed:
    value = arguments.time(arguments.count(1)[0], "date")
    return derive(call("last_day", value.node), "date", [value])


def _format_time(arguments: Arguments) -> Typed:
    pattern, of_day = time_pattern(arguments.constant(arguments.named.get("format"), "the pattern"))
    value = arguments.time(arguments.count(1)[0], "timestamp")
    return derive(call("strftime", value.node, exp.Literal.string(pattern)), "string", [value])


def _same(arguments: Arguments) -> Typed:
    return arguments.count(1)[0]


def _make_date(arguments: Arguments) -> Typed:
    values = [_whole(arguments, value) for value in arguments.count(3)]
    return derive(call("make_date", *(value.node for value in values)), "date", values, throws=True)


def _make_timestamp(arguments: Arguments) -> Typed:
    names = ("year", "month", "day", "hour", "min", "sec")
    named = arguments.named
    if set(named) != set(names):
        raise UntranslatableError("make_timestamp needs six arguments, without a time zone")
    values = [_whole(arguments, named[name]) for name in names]
    seconds = values[-1]
    if seconds.constant is None or not 0 <= int(seconds.constant) < 60:
        limits = exp.Between(this=seconds.node.copy(), low=integer(0), high=integer(59))
        checked = choose(exp.Paren(this=limits), seconds.node, fail("make_timestamp: the second is not from 0 to 59"))
        values[-1] = derive(
            choose(exp.Is(this=seconds.node.copy(), expression=exp.Null()), exp.Null(), checked), "int", [seconds]
        )
    nodes = [value.node for value in values[:-1]] + [cast_to(values[-1].node, "double")]
    return derive(call("make_timestamp", *nodes), "timestamp", values, throws=True)


def _whole(arguments: Arguments, value: Typed) -> Typed:
    if value.kind not in ("tinyint", "smallint", "int", "void"):
        raise UntranslatableError(f"{arguments.name} of a {value.kind} is not translated; write CAST to int")
    return cast(value, "int")


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
    exp.Concat: Handler(_concat),
    exp.DPipe: Handler(_concat, ("expression",)),
    exp.ConcatWs: Handler(_concat_ws),
    exp.Upper: Handler(_cased("upper")),
    exp.Lower: Handler(_cased("lower")),
    exp.Trim: Handler(_trim, ("position",)),
    exp.Length: Handler(_text_to_number("length")),
    exp.Substring: Handler(_substring, ("start", "length")),
    exp.Left: Handler(_side("left"), ("expression",)),
    exp.Right: Handler(_side("right"), ("expression",)),
    exp.Replace: Handler(_texts("replace", "string"), ("expression", "replacement")),
    exp.StartsWith: Handler(_texts("starts_with"), ("expression",)),
    exp.EndsWith: Handler(_texts("suffix"), ("expression",)),
    exp.Contains: Handler(_texts("contains"), ("expression",)),
    exp.StrPosition: Handler(_texts("instr", "int"), ("substr",)),
    exp.Pad: Handler(_pad, ("expression", "fill_pattern", "is_left")),
    exp.Reverse: Handler(_texts("reverse", "string")),
    exp.Like: Handler(_like, ("expression",)),
    exp.RegexpLike: Handler(_matches, ("expression",)),
    exp.RegexpExtract: Handler(_extract, ("expression", "group")),
    exp.RegexpReplace: Handler(_replace_pattern, ("expression", "replacement")),
    exp.Year: Handler(_part("year")),
    exp.Quarter: Handler(_part("quarter")),
    exp.Month: Handler(_part("month")),
    exp.Day: Handler(_part("day")),
    exp.DayOfMonth: Handler(_part("day")),
    exp.DayOfYear: Handler(_part("dayofyear")),
    exp.WeekOfYear: Handler(_part("weekofyear")),
    exp.DayOfWeek: Handler(_part("dayofweek", shift=1)),
    exp.Hour: Handler(_part("hour", of_day=True)),
    exp.Minute: Handler(_part("minute", of_day=True)),
    exp.Second: Handler(_part("second", of_day=True)),
    exp.TsOrDsToDate: Handler(_to_date),
    exp.TimeStrToTime: Handler(_same),
    exp.DateDiff: Handler(_date_diff, ("expression",)),
    exp.TsOrDsAdd: Handler(_date_add, ("expression", "unit")),
    exp.TimestampTrunc: Handler(_truncate("timestamp"), ("unit",)),
    exp.DateTrunc: Handler(_truncate("date"), ("unit",)),
    exp.LastDay: Handler(_last_day),
    exp.TimeToStr: Handler(_format_time, ("format",)),
    exp.TimestampFromParts: Handler(_make_timestamp, ("year", "month", "day", "hour", "min", "sec")),
}
"""Functions that sqlglot has a class for."""

ANONYMOUS: dict[str, Handler] = {
    "make_date": Handler(_make_date),
    "weekday": Handler(_part("isodow", shift=-1)),
    "pmod": Handler(_pmod),
    "isnull": Handler(_is_null(True)),
    "isnotnull": Handler(_is_null(False)),
}
"""Functions that sqlglot knows by name alone."""
