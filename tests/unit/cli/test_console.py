"""Layouts for terminals of every width and encoding."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from farandole.cli.console import Column, print_table, print_text, print_values, wrap

_ID = "flights-20261130-112233-767c"
_COLUMNS = [Column("id"), Column("state"), Column("step", is_number=True), Column("reason", is_text=True)]
_ROWS = [
    [_ID, "running", "1,200", "attempt 1 is training"],
    ["mnist-1", "failed", "7", "worker 1 was killed by signal 9, SIGKILL (the kernel does this when memory runs out)"],
]


def _shown(width: int, show: Callable[[Console], None]) -> list[str]:
    file = io.StringIO()
    show(Console(file=file, width=width, markup=False, emoji=False, highlight=False))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 100, 80, 60, 50, 40])
def test_table_fits_and_divides_no_word(width: int) -> None:
    lines = _shown(width, lambda console: print_table(console, _COLUMNS, _ROWS))
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for row in _ROWS:
        assert set(" ".join(row).split()) <= set(words)


def test_table_that_does_not_fit_becomes_a_list() -> None:
    assert _shown(50, lambda console: print_table(console, _COLUMNS, _ROWS[:1], heads=2)) == [
        "flights-20261130-112233-767c  running",
        "  step    1,200",
        "  reason  attempt 1 is training",
    ]


def test_column_without_values_is_left_out() -> None:
    rows = [["a", ""], ["b", ""]]
    lines = _shown(80, lambda console: print_table(console, [Column("x"), Column("y")], rows))
    assert lines == ["x", "─", "a", "b"]


def test_narrow_terminal_shows_values_below_their_names() -> None:
    rows = [("a rather long name", "a value of six words or so")]
    assert _shown(80, lambda console: print_values(console, rows, title="t")) == [
        "t",
        "  a rather long name  a value of six words or so",
    ]
    assert _shown(40, lambda console: print_values(console, rows, title="t")) == [
        "t",
        "  a rather long name",
        "    a value of six words or so",
    ]


def test_path_that_is_too_long_beside_its_name_starts_on_the_next_line() -> None:
    path = "/" + "x" * 60
    lines = _shown(70, lambda console: print_values(console, [("directory of the job", path)], title="t"))
    assert lines == ["t", "  directory of the job", f"    {path}"]


def test_text_is_wrapped_with_an_indentation() -> None:
    lines = _shown(24, lambda console: print_text(console, "one two three four five six", indent=2))
    assert lines == ["one two three four five", "  six"]


@given(st.text(alphabet="ab é界", max_size=80), st.integers(1, 40))
def test_wrapping_keeps_every_word_and_the_width(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert " ".join(lines).split() == text.split()
    assert all(cell_len(line) <= width or " " not in line.strip() for line in lines)


_PRINT = """
import sys
from farandole.cli.console import make_console, mark, prepare_output, print_table, Column
prepare_output()
print("plain… 日本 é ✔")
console = make_console()
print_table(console, [Column(""), Column("b")], [[mark(console, ok=True), "ü"], [mark(console, ok=False), "語"]])
print("error: x → y", file=sys.stderr)
"""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "ascii:strict"])
def test_every_encoding_gets_plain_text(encoding: str) -> None:
    variables = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", _PRINT], env=variables, capture_output=True, check=True)
    shown = done.stdout.decode(encoding.partition(":")[0])
    assert "\\u65e5\\u672c" in shown
    assert "ok " in shown
    assert "error" in shown
    assert "───" not in shown
    assert b"y" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_stream_is_not_given_to_a_file(closed: str, tmp_path: Path) -> None:
    """Without a replacement, the next file that is opened would become standard output."""
    code = _PRINT + f"file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2\nfile.write('kept')"
    command = ["/bin/sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"
