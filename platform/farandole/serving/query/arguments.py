"""Arguments of a function in a query, and the description of its translation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from farandole.serving.query.casts import cast
from farandole.serving.query.translated import UntranslatableError
from farandole.serving.query.types import TIMES, Typed, is_number


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


@dataclass(frozen=True)
class Handler:
    """Translation of one function.

    Args:
        translate: Makes the result from the arguments.
        names: The arguments that sqlglot names, apart from `this` and `expressions`.
    """

    translate: Callable[[Arguments], Typed]
    names: tuple[str, ...] = ()
