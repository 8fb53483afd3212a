"""Tables whose values are written in many ways, each with the value that the preparation should find."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Cell = tuple[str, object]
"""A text and its value: a number, a word, or None where it is missing."""
Way = Callable[[random.Random], Cell]


def number(write: Callable[[float], str], values: Sequence[float], missing: Sequence[str] = ()) -> Way:
    """Return a way to write numbers.

    Args:
        write: Writes a number.
        values: The numbers to choose from.
        missing: Texts of missing values.
    """

    def cell(source: random.Random) -> Cell:
        if missing and source.random() < 0.3:
            return source.choice(missing), None
        value = source.choice(values)
        return write(value), value

    return cell


def word(*words: str) -> Way:
    """Return a column of words, all of which are values."""

    def cell(source: random.Random) -> Cell:
        found = source.choice(words)
        return found, found

    return cell


def _comma(value: float) -> str:
    return str(value).replace(".", ",")


def _german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


_SMALL = [number + fraction for number in range(40) for fraction in (0.25, 0.5)]
_LARGE = [float(number) for number in (7, 343, 585, 1_234, 62_503, 99_999, 123_456)]

DECIMAL_COMMA: Mapping[str, Way] = {
    "decimal comma": number(_comma, _SMALL),
    "grouped": number(_german, [value * 100 for value in _SMALL]),
    "thousands": number(lambda value: f"{value:,.0f}".replace(",", "."), _LARGE),
    "percent": number(lambda value: f"{_comma(value)} %", _SMALL),
    "euros": number(lambda value: f"{_german(value)} €", _SMALL, ["-"]),
    "sentinel": number(lambda value: f"{value:.0f}", _LARGE, ["-999"]),
    "sign": word("-", "+"),
}
"""Ways to write columns of files with decimal commas."""
DECIMAL_POINT: Mapping[str, Way] = {
    "plain": number(str, _SMALL),
    "padded": number(lambda value: f" {value:.3f}", _SMALL, [" NA"]),
    "dollars": number(lambda value: f"${value:,.2f}", [value * 100 for value in _SMALL], ["-", "n/a"]),
    "percents": number(lambda value: f"{value}%", _SMALL),
    "words": number(str, _SMALL, ["none", "None", "?"]),
    "garage": word("none", "brick", "wood"),
    "loss": number(lambda value: f"{value:.0f}", [float(value) for value in range(-120, 20)]),
    "sentinel": number(lambda value: f"{value:.0f}", _LARGE, ["-99"]),
}
"""Ways to write columns of files with decimal points."""


def write_mixed(
    path: Path,
    ways: Mapping[str, Way],
    *,
    rows: int = 120,
    separator: str = ",",
    header: bool = True,
    encoding: str = "utf-8",
) -> dict[str, list[object]]:
    """Write a text file.

    Args:
        path: The file.
        ways: Column to the way in which it is written.
        rows: The number of rows.
        separator: The separator; a text that holds it is quoted.
        header: Whether the first line names the columns.
        encoding: The encoding.

    Returns:
        Column to its values.
    """
    source = random.Random(11)
    cells = {column: [way(source) for _ in range(rows)] for column, way in ways.items()}
    lines = [list(cells)] if header else []
    lines += [[text for text, _ in row] for row in zip(*cells.values(), strict=True)]
    quoted = [[f'"{text}"' if separator in text or "\n" in text else text for text in line] for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(map(separator.join, quoted)) + "\n").encode(encoding))
    return {column: [value for _, value in found] for column, found in cells.items()}
