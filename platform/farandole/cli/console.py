"""The terminal: its characters, its width, and layouts that fit both.

Nothing here is boxed, and no word is ever divided: an id or a path can be copied from the screen. A table that does not
fit becomes a list of its rows. On a terminal that cannot show a character, similar plain text appears.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_PLAIN_HANDLER = "farandole.plain"
_PLAIN = {
    "✔": "ok",
    "✘": "error",
    "…": "...",
    "\u2013": "-",
    "\u2014": "-",
    "\u2010": "-",
    "\u2212": "-",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "•": "*",
    "·": "*",
    "\u00d7": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "─": "-",
    "━": "-",
    "│": "|",
    "\u00a0": " ",
}
"""Replacement of characters that the terminal's encoding lacks; all others become escapes such as `\\u4e2d`."""
_GAP = "  "
_MIN_FLEXIBLE = 28
"""A column of text that is narrower than this is hard to read; the table becomes a list."""
_MIN_VALUE = 30
"""Values that have less room than this beside their names, and need more, are shown below them."""

Value = str | Text
"""Text of one style: plain, or styled as a whole."""


def prepare_output() -> None:
    """Make standard output and error accept every character, and exist even if they were closed.

    A descriptor that is closed would be given to the next file that is opened, and programs that are started later
    would write into that file.
    """
    codecs.register_error(_PLAIN_HANDLER, _replace)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the whole process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN_HANDLER)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks: the error handler of both streams."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or _escape(each) for each in missing), error.end


def _escape(character: str) -> str:
    return character.encode("ascii", errors="backslashreplace").decode("ascii")


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints texts unchanged: values such as `[/b]` or `:smile:` are not markup."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def has_symbols(console: Console) -> bool:
    """Return whether the console can show check marks and lines."""
    return console.encoding.lower().replace("-", "").startswith("utf")


def mark(console: Console, *, ok: bool) -> Text:
    """Return a check mark or a cross, or a word where the console lacks them."""
    symbols = ("✔", "✘") if has_symbols(console) else ("ok", "error")
    return Text(symbols[0], style="green") if ok else Text(symbols[1], style="red")


def print_text(console: Console, text: str, *, indent: int = 0, style: str = "", head: Text | None = None) -> None:
    """Print text, wrapped between words.

    Args:
        console: Where to print.
        text: One or more lines.
        indent: Indentation of all lines but the first.
        style: Style of the whole text.
        head: A word in another style that precedes it.
    """
    whole = text if head is None else f"{head} {text}"
    for number, line in enumerate(whole.splitlines() or [""]):
        for part_number, part in enumerate(wrap(line, console.width, indent)):
            is_first = number + part_number == 0
            shown = Text(" " * (0 if part_number == 0 else indent) + part, style=style)
            if head is not None and is_first:
                shown.stylize(head.style, 0, len(head))
            _print(console, shown)


def print_values(console: Console, rows: Sequence[tuple[str, Value]], *, title: Value = "", indent: int = 0) -> None:
    """Print names and values: side by side, or one below the other where there is little room.

    Args:
        console: Where to print.
        rows: Names and values; a value may have several lines.
        title: A line above them, under which they are indented.
        indent: Indentation of all lines.
    """
    if title:
        print_text(console, " " * indent + str(title), indent=indent + 2, style="bold")
        indent += 2
    width = max((cell_len(name) for name, _ in rows), default=0)
    beside = indent + width + len(_GAP)
    longest = max((cell_len(line) for _, value in rows for line in str(value).splitlines()), default=0)
    if console.width - beside >= min(_MIN_VALUE, longest):
        for name, value in rows:
            _print_beside(console, name, value, indent, width)
        return
    for name, value in rows:
        _print(console, Text(" " * indent + name, style="bold"))
        for line in _lines(value, console.width - indent - 2):
            _print(console, Text(" " * (indent + 2)).append(line))


def _print_beside(console: Console, name: str, value: Value, indent: int, width: int) -> None:
    """Print a value beside its name; one with a word that has no room there is shown below, further to the left.

    A word that is longer than the whole line is shown there as well: it exceeds the terminal by less.
    """
    beside = indent + width + len(_GAP)
    longest = max((cell_len(word) for word in str(value).split()), default=0)
    is_below = longest > console.width - beside and indent + 2 < beside
    start = indent + 2 if is_below else beside
    head = Text(" " * indent).append(name, style="bold")
    lines = _lines(value, console.width - start) or [Text("")]
    if is_below:
        _print(console, head)
    else:
        _print(console, head.append(" " * (beside - cell_len(head.plain))).append(lines.pop(0)))
    for line in lines:
        _print(console, Text(" " * start).append(line))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: Its heading.
        is_number: Whether it is aligned to the right.
        is_text: Whether its values are wrapped between words where the table is too wide; others never are.
        is_named: Whether its name precedes its value where that is in the first line of a row in a list.
        style: The style of its values.
    """

    name: str
    is_number: bool = False
    is_text: bool = False
    is_named: bool = False
    style: str = ""


def print_table(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Value]], *, title: str = "", heads: int = 1
) -> None:
    """Print a table; where it is too wide, a list of its rows.

    Args:
        console: Where to print.
        columns: The columns; those without any value are left out.
        rows: A value for each column.
        title: A line above the table.
        heads: Number of leading columns that form the first line of a row in the list.
    """
    used = [number for number in range(len(columns)) if number < heads or any(str(row[number]) for row in rows)]
    columns, rows = [columns[number] for number in used], [[row[number] for number in used] for row in rows]
    if title:
        print_text(console, title, style="bold")
    widths = _column_widths(console, columns, rows)
    if widths is None:
        _print_list(console, columns, rows, heads)
        return
    _print_row(console, columns, widths, [Text(column.name, style="bold") for column in columns])
    line = "─" if has_symbols(console) else "-"
    _print(console, Text(line * (sum(widths) + len(_GAP) * (len(widths) - 1)), style="dim"))
    for row in rows:
        _print_row(console, columns, widths, row)


def _column_widths(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Value]]) -> list[int] | None:
    """Return the widths of the columns; None if the table does not fit."""
    cells = [[column.name, *(str(row[number]) for row in rows)] for number, column in enumerate(columns)]
    widths = [max(cell_len(line) for text in texts for line in text.splitlines() or [""]) for texts in cells]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - console.width
    flexible = [number for number, column in enumerate(columns) if column.is_text]
    while excess > 0 and flexible:
        widest = max(flexible, key=lambda number: widths[number])
        least = max(_MIN_FLEXIBLE, *(cell_len(word) for text in cells[widest] for word in text.split() or [""]))
        if widths[widest] <= least:
            flexible.remove(widest)
            continue
        widths[widest] -= 1
        excess -= 1
    return None if excess > 0 else widths


def _print_row(console: Console, columns: Sequence[Column], widths: Sequence[int], row: Sequence[Value]) -> None:
    cells = [_lines(value, width) or [Text("")] for value, width in zip(row, widths, strict=True)]
    for number in range(max(len(lines) for lines in cells)):
        line = Text()
        for column, width, lines in zip(columns, widths, cells, strict=True):
            cell = lines[number].copy() if number < len(lines) else Text("")
            if column.style and not cell.style:
                cell.style = column.style
            pad = " " * (width - cell_len(cell.plain))
            line.append(pad if column.is_number else "").append(cell).append("" if column.is_number else pad)
            line.append(_GAP)
        line.rstrip()
        _print(console, line)


def _print_list(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Value]], heads: int) -> None:
    """Print each row as a line with its first values, and the other values below, with their names."""
    for number, row in enumerate(rows):
        if number:
            _print(console, Text(""))
        line = Text()
        for value, column in zip(row[:heads], columns[:heads], strict=True):
            if column.is_named and str(value):
                line.append(f"{column.name} ", style="bold")
            line.append(_as_text(value, column.style or "bold")).append(_GAP)
        line.rstrip()
        _print(console, line)
        others = [(column.name, value) for column, value in zip(columns[heads:], row[heads:], strict=True)]
        named = [(name, value) for name, value in others if str(value)]
        width = max((cell_len(name) for name, _ in named), default=0)
        for name, value in named:
            _print_beside(console, name, value, 2, width)


def _as_text(value: Value, style: str = "") -> Text:
    return value.copy() if isinstance(value, Text) else Text(value, style=style)


def _lines(value: Value, width: int) -> list[Text]:
    """Return a value in lines of a width, divided between words; longer words have a line to themselves."""
    style = value.style if isinstance(value, Text) else ""
    return [Text(part, style=style) for line in str(value).splitlines() for part in wrap(line, width)]


def wrap(text: str, width: int, indent: int = 0) -> list[str]:
    """Divide a line between words; a word that is longer than the width is not divided.

    Args:
        text: The line; its own indentation is kept.
        width: Cells of a line.
        indent: Cells that all lines but the first lose to indentation.
    """
    stripped = text.lstrip(" ")
    lines: list[str] = []
    line = text[: len(text) - len(stripped)]
    is_empty = True
    for word in stripped.split(" "):
        room = width - (indent if lines else 0)
        if not is_empty and cell_len(line) + 1 + cell_len(word) > room:
            lines.append(line.rstrip())
            line = word
        else:
            line = line + word if is_empty else f"{line} {word}"
        is_empty = False
    return [*lines, line.rstrip()]


def _print(console: Console, line: Text) -> None:
    """Print a line as it is, even if it is longer than the terminal is wide."""
    console.print(line, soft_wrap=True)
