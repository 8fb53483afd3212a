"""Plain data, such as metrics and lineage, as parts that a template shows: pairs, tables, lists and texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_ITEMS = 100
"""Entries of a list or rows of a table that are shown; the rest is counted."""
_MAX_DEPTH = 12
"""Levels that are shown; anything deeper is shown as JSON."""


def outline(value: Any, depth: int = 0) -> dict[str, Any]:
    """Return plain data as a part to show.

    Args:
        value: A value as JSON has it.
        depth: The level of the value.

    Returns:
        One of `{"pairs": [(key, part)]}`, `{"table": {"heads", "rows", "more"}}` with parts as cells and with
        `{"text", "number"}` as heads, `{"entries": [part], "more"}`, and `{"text": text}`, for numbers with
        `"number": True`.
    """
    if isinstance(value, Mapping) and value and depth < _MAX_DEPTH:
        if _is_table(list(value.values())):
            return _table([{"": key, **row} for key, row in value.items()], depth)
        return {"pairs": [(key.replace("_", " "), outline(inner, depth + 1)) for key, inner in value.items()]}
    if isinstance(value, list | tuple) and value and depth < _MAX_DEPTH:
        if _is_table(list(value)):
            return _table(list(value), depth)
        if all(isinstance(entry, int | float | str) for entry in value) and len(value) <= MAX_ITEMS:
            return {"text": ", ".join(_text(entry) for entry in value)}
        return {
            "entries": [outline(entry, depth + 1) for entry in value[:MAX_ITEMS]],
            "more": max(0, len(value) - MAX_ITEMS),
        }
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"text": _text(value), "number": True}
    return {"text": _text(value)}


def format_number(value: float) -> str:
    """Format a number for people: `12,345`, `0.25`, `1.2e-09`."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"


def _is_table(values: list[Any]) -> bool:
    """Check for several mappings that share a key, so that their values are comparable in columns."""
    if len(values) < 2 or not all(isinstance(value, Mapping) and value for value in values):
        return False
    flat = all(not isinstance(inner, Mapping | list) or len(inner) <= 3 for value in values for inner in value.values())
    return flat and bool(set.intersection(*(set(value) for value in values)))


def _table(rows: list[dict[str, Any]], depth: int) -> dict[str, Any]:
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [
        [outline(row[head], depth + 1) if head in row else {"text": ""} for head in heads] for row in rows[:MAX_ITEMS]
    ]
    titles = [
        {"text": head.replace("_", " "), "number": any("number" in row[place] for row in cells)}
        for place, head in enumerate(heads)
    ]
    return {"table": {"heads": titles, "rows": cells, "more": max(0, len(rows) - MAX_ITEMS)}}


def _text(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if isinstance(value, int | float) else json.dumps(value)
