"""The query of a guessed job: it converts columns and leaves out rows, and `features: auto` can read it again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FINITE = "IF(abs({0}) = DOUBLE('Infinity'), NULL, {0})"
"""SQL expression of a number that is not infinite."""
_MOST_LINES = 5
"""Conversions that have a line each; more share one."""
_LITERAL = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`(?:[^`]|``)*`", re.DOTALL)
_MASK = "\ue000"
"""The character around the number of a literal that was replaced."""
_NAME = rf"{_MASK}\d+{_MASK}|\w+"
_FILTERED = re.compile(
    rf"SELECT \* FROM (?:(?P<source>{_NAME})|\( ?(?P<inner>SELECT \* EXCEPT.*?) ?\))(?: WHERE (?P<where>.*))?", re.I
)
_REPLACING = re.compile(
    rf"SELECT \* EXCEPT ?\((?P<names>[^()]*)\) ?, ?(?P<values>.*) FROM (?P<source>{_NAME})(?: WHERE (?P<where>.*))?",
    re.I,
)
_CHANGES_ROWS = re.compile(r"\b(SELECT|UNION|INTERSECT|EXCEPT|MINUS|GROUP|WINDOW|LATERAL|JOIN)\b", re.I)


def quote_name(name: str) -> str:
    """Return the name of a column as SQL writes it."""
    return "`" + name.replace("`", "``") + "`"


def quote_value(value: Any) -> str:
    """Return a value as SQL writes it."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


def quote_values(values: Iterable[Any]) -> str:
    """Return values as a list of SQL writes them."""
    return ", ".join(map(quote_value, values))


def write_query(source: str, conversions: Mapping[str, str], conditions: Sequence[str]) -> str | None:
    """Return the query that converts columns and leaves out rows; None if there is nothing to do.

    The conditions are outside, where a column has its converted values.

    Args:
        source: The source.
        conversions: Column to the SQL expression that replaces it.
        conditions: SQL expressions that hold for the rows that stay.
    """
    indent = "  " if conditions else ""
    rows = source
    if conversions:
        replaced = ", ".join(map(quote_name, conversions))
        between = f",\n{indent}  " if len(conversions) <= _MOST_LINES else ", "
        values = between.join(f"{sql} AS {quote_name(column)}" for column, sql in conversions.items())
        rows = f"{indent}SELECT * EXCEPT ({replaced}),\n{indent}  {values}\n{indent}FROM {source}"
        rows = f"(\n{rows}\n)" if conditions else rows
    if conditions:
        return f"SELECT *\nFROM {rows}\nWHERE {' AND '.join(conditions)}"
    return rows if conversions else None


def replaced_columns(query: str, source: str) -> frozenset[str] | None:
    """Return the columns of a source that a query replaces; it gives all others unchanged.

    Args:
        query: The query.
        source: The source's name.

    Returns:
        The columns, none if the query only leaves rows out; None: it does something else.
    """
    literals: list[str] = []

    def mask(match: re.Match[str]) -> str:
        literals.append(match[0])
        return f"{_MASK}{len(literals) - 1}{_MASK}"

    def name_of(text: str) -> str:
        text = text.strip()
        return literals[int(text.strip(_MASK))][1:-1].replace("``", "`") if text.startswith(_MASK) else text

    text = " ".join(_LITERAL.sub(mask, query).split())
    filtered = _FILTERED.fullmatch(text)
    parts = [filtered["where"] or ""] if filtered else []
    replacing = _REPLACING.fullmatch((filtered["inner"] or "") if filtered else text)
    found = replacing or filtered
    if found is None or found["source"] is None or name_of(found["source"]) != source:
        return None
    names: set[str] = set()
    if replacing is not None:
        parts += [replacing["values"], replacing["where"] or ""]
        names = set(map(name_of, replacing["names"].split(",")))
        aliases = [re.fullmatch(rf".* AS ({_NAME})", value, re.I) for value in _split(replacing["values"])]
        if {name_of(alias[1]) if alias else None for alias in aliases} != names or len(aliases) != len(names):
            return None
    return None if any(map(_CHANGES_ROWS.search, parts)) else frozenset(names)


def _split(text: str) -> list[str]:
    """Return the parts of a text between the commas that are outside of all parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]
