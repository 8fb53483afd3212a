"""Quoting of column names for Spark's SQL."""

from __future__ import annotations


def quote_identifier(column: str) -> str:
    """Return a column's name, whatever characters it has, in backticks."""
    return f"`{column.replace('`', '``')}`"
