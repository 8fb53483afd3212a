"""Texts that mean a missing value."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.spec import CsvSource
from tests.support.guesses import guess_file, job_of, kinds_of
from tests.support.odd_tables import write_table


@pytest.mark.parametrize("text", ["NA", "N/A", "?", "-", "null", "None", "nan", ".", "-999", "#N/A"])
def test_null_value_among_numbers_is_found(tmp_path: Path, text: str) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice([text, '1.5', '2.5'])},{source.choice('ab')}"
    )
    found = guess_file(path, "y")
    assert found.source["null_values"] == [text]
    assert kinds_of(found) == {"x": "numeric"}
    source = job_of(path, "y").data.sources["data"]
    assert isinstance(source, CsvSource)
    assert source.null_values == (text,)


def test_number_that_other_numbers_surround_is_not_a_null_value(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.randint(-1100, -900)},{source.choice('ab')}"
    )
    assert "null_values" not in guess_file(path, "y").source


def test_code_of_namibia_is_not_a_null_value(tmp_path: Path) -> None:
    codes = ["NA", *(f"{first}{second}" for first in "ABCDE" for second in "FGHIJKL")]
    path = write_table(tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice(codes)},{source.choice('ab')}")
    assert "null_values" not in guess_file(path, "y").source


def test_word_for_none_is_a_category_among_words(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice(['None', 'brick'])},{source.choice('ab')}"
    )
    assert "null_values" not in guess_file(path, "y").source
