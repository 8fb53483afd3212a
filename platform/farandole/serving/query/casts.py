"""Casts with Spark's ANSI meaning: a value that does not fit is an error.

DuckDB rounds where Spark truncates, and reads more spellings of numbers and times than Spark does. So texts are cast
only if they have a spelling that both read in the same way; another one is an error of the row.
"""

from __future__ import annotations

import datetime
import re

from sqlglot import exp

from farandole.serving.query.translated import UntranslatableError
from farandole.serving.query.types import (
    FLOATING,
    TIMES,
    WHOLE,
    Typed,
    call,
    cast_to,
    choose,
    decimal_digits,
    derive,
    fail,
    is_decimal,
    is_number,
    widen,
)

_BLANK = r"[ \t\n\r]*"
_DAY = "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_SPELLINGS = {
    **dict.fromkeys(WHOLE, f"{_BLANK}[+-]?[0-9]+{_BLANK}"),
    **dict.fromkeys(FLOATING, rf"{_BLANK}[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{{1,3}})?{_BLANK}"),
    "date": f"{_BLANK}{_DAY}{_BLANK}",
    **dict.fromkeys(
        ("timestamp", "timestamp_ntz"),
        rf"{_BLANK}{_DAY}([ T][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}([.][0-9]{{1,6}})?)?{_BLANK}",
    ),
}
"""Texts that both engines read in the same way."""
_BLANKS = " \t\n\r"
_TRUE, _FALSE = ("t", "true", "y", "yes", "1"), ("f", "false", "n", "no", "0")
_MICROS = 1_000_000
_MAX_EXACT_DIGITS = 15
"""Digits of a decimal number up to which dividing its digits by a power of ten gives the nearest float64."""


def cast(value: Typed, kind: str) -> Typed:
    """Translate CAST.

    Raises:
        UntranslatableError: The engines disagree about this cast.
    """
    if value.kind == kind:
        return value
    if value.kind == "void":
        return widen(value, kind)
    if value.constant is not None:
        folded = _cast_literal(value, kind)
        if folded is not None:
            return folded
    if kind == "string":
        return _to_text(value)
    if value.kind == "string":
        return _from_text(value, kind)
    if kind in WHOLE:
        return _to_whole(value, kind)
    if kind in FLOATING:
        return _to_floating(value, kind)
    if kind == "boolean" and is_number(value.kind):
        return derive(exp.NEQ(this=value.node.copy(), expression=exp.Literal.number(0)), kind, [value])
    if kind in TIMES and value.kind in TIMES:
        return derive(cast_to(value.node, kind), kind, [value])
    raise _unknown(value, kind)


def _unknown(value: Typed, kind: str) -> UntranslatableError:
    return UntranslatableError(
        f"CAST of {value.kind} to {kind} is not translated, because the engines disagree about it"
    )


def _cast_literal(value: Typed, kind: str) -> Typed | None:
    """Return the cast of a literal whose value is known; None: it is cast like any other value."""
    text = value.constant or ""
    if kind in FLOATING and (is_decimal(value.kind) or value.kind == "string"):
        if value.kind == "string" and text.strip().lower() in ("infinity", "inf", "+infinity", "-infinity", "nan"):
            text = text.strip().lower().replace("infinity", "inf")
        elif not re.fullmatch(_SPELLINGS[kind], text):
            return None
        return Typed(cast_to(exp.Literal.string(text.strip()), kind), kind)
    return None


def time_literal(value: Typed, kind: str) -> Typed:
    """Return a text literal as the date or the timestamp that Spark compares with a column of times.

    Raises:
        UntranslatableError: It is not ISO 8601 without a time zone.
    """
    text = (value.constant or "").strip(_BLANKS)
    try:
        if not re.fullmatch(_SPELLINGS[kind], text):
            raise ValueError(text)
        day, clock = re.fullmatch(f"({_DAY})(.*)", text).groups()  # type: ignore[union-attr]
        written = datetime.date(*map(int, day.split("-"))).isoformat() + clock
        datetime.datetime.fromisoformat(written)
    except ValueError:
        raise UntranslatableError(f"the text {text!r} is not a {kind} in ISO 8601; write it so, in UTC") from None
    return Typed(cast_to(exp.Literal.string(written), kind), kind)


def _to_text(value: Typed) -> Typed:
    if value.kind in FLOATING:
        raise UntranslatableError(
            f"{value.kind} as text is not translated, because the engines write such numbers differently; cast to a"
            " whole number first"
        )
    if value.kind in WHOLE or value.kind in ("boolean", *TIMES) or is_decimal(value.kind):
        return derive(cast_to(value.node, "string"), "string", [value])
    raise _unknown(value, "string")


def _from_text(value: Typed, kind: str) -> Typed:
    trimmed = call("trim", value.node, exp.Literal.string(_BLANKS))
    if kind == "boolean":
        lower = call("lower", trimmed)
        texts = {name: [exp.Literal.string(text) for text in names] for name, names in (("t", _TRUE), ("f", _FALSE))}
        no = choose(exp.In(this=lower.copy(), expressions=texts["f"]), exp.false(), fail("a text is not a boolean"))
        node = choose(exp.In(this=lower.copy(), expressions=texts["t"]), exp.true(), no)
    elif kind in _SPELLINGS:
        node = choose(
            call("regexp_full_match", value.node, exp.Literal.string(_SPELLINGS[kind])),
            cast_to(trimmed, kind),
            fail(f"a text cannot become {kind}"),
        )
    else:
        raise _unknown(value, kind)
    missing = exp.Is(this=value.node.copy(), expression=exp.Null())
    return derive(choose(missing, exp.Null(), node), kind, [value], throws=True)


def _to_whole(value: Typed, kind: str) -> Typed:
    if value.kind in WHOLE or value.kind == "boolean":
        narrower = value.kind in WHOLE and WHOLE.index(value.kind) > WHOLE.index(kind)
        return derive(cast_to(value.node, kind), kind, [value], throws=narrower)
    if value.kind in FLOATING or is_decimal(value.kind):
        return derive(cast_to(call("trunc", value.node), kind), kind, [value], throws=True)
    if value.kind == "timestamp" and kind == "bigint":
        return derive(_whole_seconds(call("epoch_us", value.node)), kind, [value])
    raise _unknown(value, kind)


def _whole_seconds(micros: exp.Expression) -> exp.Expression:
    """Return microseconds as whole seconds, rounded down, also before 1970."""
    million = exp.Literal.number(_MICROS)
    rest = exp.Mod(this=micros.copy(), expression=million.copy())
    positive = exp.Mod(
        this=exp.Paren(this=exp.Add(this=exp.Paren(this=rest), expression=million.copy())), expression=million.copy()
    )
    whole = exp.Paren(this=exp.Sub(this=micros.copy(), expression=exp.Paren(this=positive)))
    return exp.Paren(this=exp.IntDiv(this=whole, expression=million.copy()))


def _to_floating(value: Typed, kind: str) -> Typed:
    if value.kind in WHOLE or value.kind == "boolean" or value.kind in FLOATING:
        return derive(cast_to(value.node, kind), kind, [value], throws=kind == "float")
    if is_decimal(value.kind) and kind == "double" and decimal_digits(value.kind)[0] <= _MAX_EXACT_DIGITS:
        return derive(cast_to(value.node, kind), kind, [value])
    raise _unknown(value, kind)
