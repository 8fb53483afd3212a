"""Separators and headers of text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import DataError
from farandole.guessing.sampling.dialect import find_dialect


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ("62503\t2.025,00", "\t"),  # commas give as many fields
        ("$1,234|b", "|"),
        ("1;2;3", ";"),
        ("1,2,3", ","),
        ("word", ","),
    ],
)
def test_separator_is_found_without_a_header(tmp_path: Path, line: str, separator: str) -> None:
    path = tmp_path / "t.txt"
    path.write_text(f"{line}\n" * 30)
    assert find_dialect(path).separator == separator


@pytest.mark.parametrize(
    ("above", "message"),
    [
        ("Sales of 2024\n", r"line 1 has 1 field, and the lines below have 3; remove the line above the table"),
        ("Sales, 2024\n\nby region\n", r"line 1 has 2 fields, .* remove the 2 lines above the table"),
        ("x,y\n", r"line 1 has 2 fields, and the lines below have 3; write the name that is missing"),
    ],
)
def test_lines_above_the_table_are_named(tmp_path: Path, above: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(above + "1,2,a\n" * 30)
    with pytest.raises(DataError, match=message):
        find_dialect(path)
