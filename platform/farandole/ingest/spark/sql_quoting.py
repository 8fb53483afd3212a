"""Names of columns in Spark's SQL."""

from __future__ import annotations


def quote_identifier(column: str) -> str:
    """A column's name, whatever signs it has, as SQL takes it: between backticks."""
    return f"`{column.replace('`', '``')}`"
