"""Points and commas in numbers: thousands or fractions."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.guessing.guess import look
from tests.support.guesses import guess_file
from tests.support.odd_tables import write_table


def _read(tmp_path: Path, cells: list[str], others: list[str], separator: str = ";") -> tuple[set[float], list[str]]:
    """Return the numbers that are read in a column, and the warnings."""
    path = write_table(
        tmp_path / "t.csv",
        separator.join("xzy"),
        lambda source, _: separator.join(
            f'"{text}"' for text in (source.choice(cells), source.choice(others), source.choice("ab"))
        ),
    )
    found = guess_file(path, "y")
    sample = look(str(path)).sample
    assert sample is not None
    return set(sample.column("x").numbers.tolist()), found.warnings


@pytest.mark.parametrize(
    ("cells", "others", "separator", "expected"),
    [
        (["343", "585", "62.503"], ["u", "v"], ";", {343.0, 585.0, 62503.0}),  # digits alone occur
        (["1.343", "62.503"], ["2,5", "3,75"], ";", {1343.0, 62503.0}),  # another column has decimal commas
        (["-1.343", "62.503"], ["2,5", "3,75"], "\t", {-1343.0, 62503.0}),
        (["48.137", "11.575"], ["u", "v"], ";", {48.137, 11.575}),  # nothing else is known
        (["343", "62.503"], ["2.5", "3.75"], ";", {343.0, 62.503}),  # another column has decimal points
        (["1,234", "2,345"], ["2,5", "3,75"], ",", {1.234, 2.345}),
        (["1,234", "2,345"], ["2.5", "3.75"], ";", {1234.0, 2345.0}),
        (["1,234", "2,345"], ["u", "v"], ";", {1.234, 2.345}),
    ],
)
def test_numbers_that_can_be_read_in_two_ways_are_read_as_the_file_suggests(
    tmp_path: Path, cells: list[str], others: list[str], separator: str, expected: set[float]
) -> None:
    numbers, warnings = _read(tmp_path, cells, others, separator)
    assert numbers == expected
    (warning,) = warnings
    assert warning.startswith("x: ")
    assert " is read as " in warning


@pytest.mark.parametrize(
    ("cells", "others", "separator", "expected"),
    [
        (["343", "62.503"], ["u", "v"], ",", {343.0, 62.503}),
        (["0.503", "62.503"], ["u", "v"], ";", {0.503, 62.503}),
        (["62.5", "62.503"], ["u", "v"], ";", {62.5, 62.503}),
        (["343", "585"], ["2,5", "3,75"], ";", {343.0, 585.0}),
        (["0,484", "0,125", "1,234"], ["u", "v"], ";", {0.484, 0.125, 1.234}),
        (["$1,234", "$2,345"], ["u", "v"], ",", {1234.0, 2345.0}),
    ],
)
def test_other_numbers_need_no_warning(
    tmp_path: Path, cells: list[str], others: list[str], separator: str, expected: set[float]
) -> None:
    assert _read(tmp_path, cells, others, separator) == (expected, [])
