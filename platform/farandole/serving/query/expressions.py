"""Translation of Spark's scalar expressions to DuckDB's, by the types of their values.

Only listed forms are translated, each with the meaning that it has in a Spark session in ANSI mode; an expression that
is not listed is refused. DuckDB's implicit casts are never relied on: each operand has its final type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlglot import exp

from farandole.serving.query.arguments import Arguments
from farandole.serving.query.casts import cast, time_literal
from farandole.serving.query.functions import ANONYMOUS, FUNCTIONS, UNSTABLE
from farandole.serving.query.translated import UntranslatableError
from farandole.serving.query.types import (
    TIMES,
    WHOLE,
    Typed,
    cast_to,
    choose,
    common_type,
    derive,
    fail,
    is_decimal,
    is_number,
    widen,
)

Resolver = Callable[[exp.Column], Typed]
"""Returns the expression of a column that a query names."""
_PLAIN = (exp.Var, bool, str)
"""Arguments that are words or flags, and not expressions."""
_BITS = {"int": 31, "bigint": 63}
_ZERO = "division by zero"
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ)
_IGNORED_FLAGS = frozenset(
    [
        "safe",
        "typed",
        "coalesce",
        "flatten",
        "ignore_nulls",
        "null_if_pos_overflow",
        "offset",
        "kind",
        "nested",
        "is_length",
        "warn_not_null",
    ]
)
"""sqlglot's notes on the dialect, which say nothing about this query."""
_CAST_TYPES = {
    "TEXT": "string",
    "VARCHAR": "string",
    "BIGINT": "bigint",
    "INT": "int",
    "SMALLINT": "smallint",
    "TINYINT": "tinyint",
    "FLOAT": "float",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMPTZ": "timestamp",
    "TIMESTAMPLTZ": "timestamp",
    "TIMESTAMPNTZ": "timestamp_ntz",
    "BINARY": "binary",
    "VARBINARY": "binary",
}
_TYPE_FUNCTIONS = {"bigint": "bigint", "tinyint": "tinyint", "smallint": "smallint", "binary": "binary"}


class Translator:
    """Translator of the expressions of one query.

    Args:
        resolve: Returns the expression of a column.
    """

    def __init__(self, resolve: Resolver) -> None:
        self._resolve = resolve

    def translate(self, node: exp.Expression) -> Typed:
        """Translate one expression.

        Raises:
            UntranslatableError: It has no equivalent.
        """
        if isinstance(node, exp.Column):
            return self._resolve(node)
        for classes, method in self._METHODS:
            if isinstance(node, classes):
                return method(self, node)
        return self._function(node)

    def _paren(self, node: exp.Expression) -> Typed:
        return self.translate(node.this)

    # Literals ------------------------------------------------------------------------------------------------------

    def _literal(self, node: exp.Expression) -> Typed:
        text = str(node.this)
        if node.is_string:
            return Typed(exp.Literal.string(text), "string", constant=text)
        return number_literal(text)

    def _boolean(self, node: exp.Expression) -> Typed:
        return Typed(exp.true() if node.this else exp.false(), "boolean")

    def _null(self, node: exp.Expression) -> Typed:
        return Typed(exp.Null(), "void")

    def _negative(self, node: exp.Expression) -> Typed:
        value = self.translate(node.this)
        if value.constant is not None and is_number(value.kind) and not value.constant.startswith("-"):
            return number_literal(f"-{value.constant}")
        if not is_number(value.kind):
            raise UntranslatableError(f"the negative of a {value.kind} is not translated")
        return derive(exp.Paren(this=exp.Neg(this=exp.Paren(this=value.node.copy()))), value.kind, [value], throws=True)

    # Arithmetic ----------------------------------------------------------------------------------------------------

    def _numbers(self, node: exp.Expression) -> tuple[Typed, Typed, str]:
        left, right = self.translate(node.this), self.translate(node.expression)
        kind = common_type([left.kind, right.kind])
        if kind is None or not is_number(kind):
            raise UntranslatableError(
                f"{node.key} of {left.kind} and {right.kind} is not translated; write CAST to numbers of one type"
            )
        if is_decimal(kind):
            raise UntranslatableError(
                f"{node.key} of {left.kind} and {right.kind} has decimal numbers, whose rounding differs between"
                " engines; write CAST(… AS double), or 1.5D instead of 1.5"
            )
        return widen(left, kind), widen(right, kind), kind

    def _arithmetic(self, node: exp.Expression) -> Typed:
        left, right, kind = self._numbers(node)
        made = type(node)(this=left.node.copy(), expression=right.node.copy())
        return derive(exp.Paren(this=made), kind, [left, right], throws=kind in WHOLE)

    def _divide(self, node: exp.Expression) -> Typed:
        left, right = self.translate(node.this), self.translate(node.expression)
        for value in (left, right):
            if not is_number(value.kind) and value.kind != "void":
                raise UntranslatableError(f"the division of a {value.kind} is not translated; write CAST")
            if is_decimal(value.kind) and "double" not in (left.kind, right.kind):
                raise UntranslatableError("the division of decimal numbers is not translated; write CAST(… AS double)")
        left, right = (widen(value, "double") for value in (left, right))
        quotient = exp.Div(this=left.node.copy(), expression=right.node.copy(), typed=False, safe=False)
        return self._unless_zero(quotient, "double", left, right)

    def _whole_divide(self, node: exp.Expression) -> Typed:
        left, right, kind = self._numbers(node)
        if kind not in WHOLE:
            raise UntranslatableError("DIV of numbers that are not whole is not translated; write floor(a / b)")
        left, right = widen(left, "bigint"), widen(right, "bigint")
        return self._unless_zero(exp.IntDiv(this=left.node.copy(), expression=right.node.copy()), "bigint", left, right)

    def _remainder(self, node: exp.Expression) -> Typed:
        left, right, kind = self._numbers(node)
        return self._unless_zero(exp.Mod(this=left.node.copy(), expression=right.node.copy()), kind, left, right)

    def _unless_zero(self, node: exp.Expression, kind: str, left: Typed, right: Typed) -> Typed:
        """Return a quotient: Spark's division by zero is an error, unless the dividend is missing."""
        if right.constant is not None and float(right.constant) != 0:
            return derive(exp.Paren(this=node), kind, [left, right], throws=kind in WHOLE)
        is_zero = exp.EQ(this=right.node.copy(), expression=cast_to(exp.Literal.number(0), right.kind))
        present = exp.Not(this=exp.Is(this=left.node.copy(), expression=exp.Null()))
        checked = choose(exp.And(this=present, expression=is_zero), fail(_ZERO), exp.Paren(this=node))
        return derive(checked, kind, [left, right], throws=True)

    # Comparisons and logic -----------------------------------------------------------------------------------------

    def _comparison(self, node: exp.Expression) -> Typed:
        left, right = self._comparable([self.translate(node.this), self.translate(node.expression)])
        made = type(node)(this=left.node.copy(), expression=right.node.copy())
        return derive(exp.Paren(this=made), "boolean", [left, right])

    def _comparable(self, values: Sequence[Typed]) -> list[Typed]:
        """Return values with the type in which Spark compares them."""
        times = {value.kind for value in values if value.kind in TIMES}
        if times:
            kind = common_type(times) or "?"
            values = [
                time_literal(value, kind) if value.constant is not None and value.kind == "string" else value
                for value in values
            ]
        kind = common_type(value.kind for value in values) or "?"
        if kind == "?" or kind == "binary" or kind.startswith("array"):
            kinds = " and ".join(dict.fromkeys(value.kind for value in values))
            raise UntranslatableError(f"the comparison of {kinds} is not translated; write CAST to one type")
        return [widen(value, kind) for value in values]

    def _between(self, node: exp.Expression) -> Typed:
        if node.args.get("symmetric"):
            raise UntranslatableError("`between symmetric` is not translated")
        values = self._comparable([self.translate(node.args[name]) for name in ("this", "low", "high")])
        value, low, high = (part.node for part in values)
        made = exp.Between(this=value.copy(), low=low.copy(), high=high.copy())
        return derive(exp.Paren(this=made), "boolean", values)

    def _in(self, node: exp.Expression) -> Typed:
        if {name for name, part in node.args.items() if part} - {"this", "expressions"}:
            raise UntranslatableError("IN with a subquery is not translated; join the table, or list the values")
        values = self._comparable([self.translate(part) for part in (node.this, *node.expressions)])
        made = exp.In(this=values[0].node.copy(), expressions=[value.node.copy() for value in values[1:]])
        return derive(exp.Paren(this=made), "boolean", values)

    def _is(self, node: exp.Expression) -> Typed:
        value = self.translate(node.this)
        if isinstance(node.expression, exp.Null):
            return derive(exp.Paren(this=exp.Is(this=value.node.copy(), expression=exp.Null())), "boolean", [value])
        wanted = node.expression
        if not isinstance(wanted, exp.Boolean) or value.kind != "boolean":
            raise UntranslatableError("IS with this operand is not translated; compare with =")
        made = exp.NullSafeEQ(this=value.node.copy(), expression=wanted.copy())
        return derive(exp.Paren(this=made), "boolean", [value])

    def _logic(self, node: exp.Expression) -> Typed:
        left, right = (self.condition(part) for part in (node.this, node.expression))
        made: exp.Expression = exp.Paren(this=type(node)(this=left.node.copy(), expression=right.node.copy()))
        if right.throws:  # Spark does not evaluate the right side where the left side decides; DuckDB might
            is_and = isinstance(node, exp.And)
            decided = exp.Not(this=left.node.copy()) if is_and else left.node
            made = choose(decided, exp.false() if is_and else exp.true(), made)
        return derive(made, "boolean", [left, right])

    def _not(self, node: exp.Expression) -> Typed:
        value = self.condition(node.this)
        return derive(exp.Paren(this=exp.Not(this=exp.Paren(this=value.node.copy()))), "boolean", [value])

    def condition(self, node: exp.Expression) -> Typed:
        """Translate a condition.

        Raises:
            UntranslatableError: It is not a boolean, or has no equivalent.
        """
        value = self.translate(node)
        if value.kind not in ("boolean", "void"):
            raise UntranslatableError(f"a condition of type {value.kind} is not translated; compare it with a value")
        return widen(value, "boolean")

    # Choices -------------------------------------------------------------------------------------------------------

    def _case(self, node: exp.Expression) -> Typed:
        branches = node.args["ifs"]
        if node.this is None:
            conditions = [self.condition(branch.this) for branch in branches]
        else:
            compared = [exp.EQ(this=node.this.copy(), expression=branch.this.copy()) for branch in branches]
            conditions = [self._comparison(comparison) for comparison in compared]
        default = node.args.get("default")
        results = [self.translate(branch.args["true"]) for branch in branches]
        results.append(self.translate(default) if default is not None else Typed(exp.Null(), "void"))
        return self._chosen(conditions, results)

    def _if(self, node: exp.Expression) -> Typed:
        otherwise = node.args.get("false")
        last = self.translate(otherwise) if otherwise is not None else Typed(exp.Null(), "void")
        return self._chosen([self.condition(node.this)], [self.translate(node.args["true"]), last])

    def _chosen(self, conditions: list[Typed], results: list[Typed]) -> Typed:
        values = self.unify(results, "CASE")
        ifs = [
            exp.If(this=condition.node.copy(), true=value.node.copy())
            for condition, value in zip(conditions, values, strict=False)
        ]
        made = exp.Case(ifs=ifs, default=values[-1].node.copy())
        return derive(made, values[-1].kind, [*conditions, *values])

    def unify(self, values: Sequence[Typed], name: str) -> list[Typed]:
        """Return values with their common type.

        Raises:
            UntranslatableError: They have none, or it is not certain.
        """
        kind = common_type(value.kind for value in values)
        if kind is None:
            kinds = ", ".join(dict.fromkeys(value.kind for value in values))
            raise UntranslatableError(f"{name} with values of several types ({kinds}) is not translated; write CAST")
        return [widen(value, kind) for value in values]

    # Casts and functions -------------------------------------------------------------------------------------------

    def _cast(self, node: exp.Expression) -> Typed:
        if node.args.get("safe"):
            raise UntranslatableError("try_cast is not translated, because the engines read different texts; use CAST")
        self._check_arguments(node, {"this", "to"})
        value, wanted = self.translate(node.this), node.args["to"]
        name = wanted.this.name if not isinstance(wanted.this, str) else wanted.this
        if name in _CAST_TYPES and not wanted.expressions:
            return cast(value, _CAST_TYPES[name])
        raise UntranslatableError(f"CAST to {wanted.sql('spark')} is not translated; do it in the source")

    def _function(self, node: exp.Expression) -> Typed:
        if isinstance(node, exp.Anonymous):
            name = str(node.this).lower()
            if name in _TYPE_FUNCTIONS and len(node.expressions) == 1:
                return cast(self.translate(node.expressions[0]), _TYPE_FUNCTIONS[name])
            handler = ANONYMOUS.get(name)
            arguments: dict[str, Any] = {"expressions": node.expressions}
        else:
            name, handler = node.key, FUNCTIONS.get(type(node))
            arguments = node.args
        if handler is None:
            raise _not_listed(node, name)
        self._check_arguments(node, {"this", "expressions", *handler.names})
        parts = [*_flat(arguments.get("this")), *_flat(arguments.get("expressions"))]
        named = {name: arguments[name] for name in handler.names if arguments.get(name) is not None}
        if isinstance(node, exp.Anonymous):
            parts = list(node.expressions)
        values = [self.translate(part) for part in parts]
        others = {name: self.translate(part) for name, part in named.items() if not isinstance(part, _PLAIN)}
        plain = {name: part for name, part in named.items() if isinstance(part, _PLAIN)}
        return handler.translate(Arguments(name, values, others, plain, self))

    @staticmethod
    def _check_arguments(node: exp.Expression, known: set[str]) -> None:
        """Check that a node has no part that its translation would ignore."""
        unknown = [name for name, part in node.args.items() if part and name not in known | _IGNORED_FLAGS]
        if unknown:
            raise UntranslatableError(f"{node.key} with {', '.join(unknown)} is not translated")

    _METHODS: tuple[tuple[type | tuple[type, ...], Callable[..., Typed]], ...] = (
        (exp.Paren, _paren),
        (exp.Literal, _literal),
        (exp.Boolean, _boolean),
        (exp.Null, _null),
        (exp.Neg, _negative),
        ((exp.Add, exp.Sub, exp.Mul), _arithmetic),
        (exp.Div, _divide),
        (exp.IntDiv, _whole_divide),
        (exp.Mod, _remainder),
        (_COMPARISONS, _comparison),
        (exp.Between, _between),
        (exp.In, _in),
        (exp.Is, _is),
        ((exp.And, exp.Or), _logic),
        (exp.Not, _not),
        (exp.Case, _case),
        (exp.If, _if),
        ((exp.Cast, exp.TryCast), _cast),
    )


def _flat(part: object) -> list[exp.Expression]:
    if part is None:
        return []
    return list(part) if isinstance(part, list) else [part]  # type: ignore[list-item]


def _not_listed(node: exp.Expression, name: str) -> UntranslatableError:
    if isinstance(node, exp.AggFunc):
        return UntranslatableError(f"{name} aggregates rows, and a caller sends some of them alone")
    if isinstance(node, exp.Window):
        return UntranslatableError("a window function looks at other rows, and a caller sends some of them alone")
    if isinstance(node, exp.Query | exp.Subquery | exp.Exists):
        return UntranslatableError("a subquery inside an expression is not translated; join the table")
    if name in UNSTABLE:
        return UntranslatableError(f"{name} gives another value each time")
    return UntranslatableError(f"the function or operator {name} is not translated")


def number_literal(text: str) -> Typed:
    """Return a number as Spark reads it: a whole number, a decimal number, or with an exponent a double."""
    digits = text.removeprefix("-")
    if digits.isdigit():
        number = int(text)
        kind = next(
            (name for name, bits in _BITS.items() if -(2**bits) <= number < 2**bits), f"decimal({len(digits)},0)"
        )
    elif "e" in digits.lower():
        kind = "double"
    else:
        whole, _, fraction = digits.partition(".")
        kind = f"decimal({max(len(whole.lstrip('0')) + len(fraction), 1)},{len(fraction)})"
    is_whole = kind in _BITS and not text.startswith("-")
    written = exp.Literal.number(text) if is_whole else exp.Literal.string(text)
    return Typed(cast_to(written, kind), kind, constant=text)
