"""Small tables as people have them, for the guesses about data: each a text and what should be guessed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

Row = Callable[[random.Random, int], str]


def write_table(path: Path, header: str, row: Row, rows: int = 200, *, encoding: str = "utf-8") -> Path:
    """Write a text file of random rows, the same each time.

    Args:
        path: The file.
        header: Its first line; empty: none.
        row: Makes the text of a row of a source of random numbers and the row's number.
        rows: The number of rows.
        encoding: The encoding.
    """
    source = random.Random(7)
    lines = ([header] if header else []) + [row(source, number) for number in range(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path
