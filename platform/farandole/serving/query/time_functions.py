"""Functions of dates and timestamps in UTC, as Spark computes them, in DuckDB."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from farandole.serving.query.arguments import Arguments, Handler
from farandole.serving.query.casts import cast
from farandole.serving.query.patterns import time_pattern
from farandole.serving.query.translated import UntranslatableError
from farandole.serving.query.types import Typed, call, cast_to, choose, derive, fail, integer, widen


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
    pattern = time_pattern(arguments.constant(arguments.named.get("format"), "the pattern"))
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


TIME_FUNCTIONS: dict[type[exp.Expression], Handler] = {
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
NAMED_TIME_FUNCTIONS: dict[str, Handler] = {
    "make_date": Handler(_make_date),
    "weekday": Handler(_part("isodow", shift=-1)),
}
"""Those that sqlglot knows by name alone."""
