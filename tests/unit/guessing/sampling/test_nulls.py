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


def test_value_of_a_column_of_words_is_missing_only_among_numbers(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "x,garage,status",
        lambda source, _: (
            f"{source.choice(['none', '1.5', '2.5'])},{source.choice(['none', 'brick'])},"
            f"{source.choice(['none', 'mild', 'severe'])}"
        ),
    )
    found = guess_file(path, "status")
    assert "null_values" not in found.source
    assert found.label.kind == "multiclass"
    assert found.label.missing == 0
    assert found.warnings == []
    assert kinds_of(found) == {"x": "numeric", "garage": "categorical"}
    assert found.query == ("SELECT * EXCEPT (`x`),\n  CAST(IF(`x` IN ('none'), NULL, `x`) AS DOUBLE) AS `x`\nFROM data")


def test_number_that_marks_missing_values_in_one_column_is_a_value_in_another(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "age,loss,y",
        lambda source, _: f"{source.choice(['-99', '20', '30'])},{source.randint(-120, 20)},{source.choice('ab')}",
    )
    found = guess_file(path, "y")
    assert "null_values" not in found.source
    assert "IF(`age` IN ('-99'), NULL, `age`)" in (found.query or "")
    (warning,) = found.warnings
    assert warning.startswith("age: -99 is read as missing (")
    assert warning.endswith("where it is a number, remove it from the query")


def test_loss_of_99_among_smaller_losses_is_a_number(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "loss,y",
        lambda source, n: f"{-99 if n < 2 else source.randint(-9, 50)},{source.choice('ab')}",
    )
    assert "null_values" not in guess_file(path, "y").source


def test_number_that_marks_missing_values_is_reported(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, n: f"{-999 if n < 7 else source.randint(1, 50)},{source.choice('ab')}"
    )
    assert guess_file(path, "y").warnings == [
        "x: -999 is read as missing (7 rows); where it is a number, remove it from null_values"
    ]


@pytest.mark.parametrize("values", [["$1.50", "$2.50"], ["12.12.2024", "13.12.2024"], ["7 %", "8 %"], ["3,5", "4,5"]])
def test_dash_among_written_numbers_and_dates_is_missing(tmp_path: Path, values: list[str]) -> None:
    path = write_table(
        tmp_path / "t.csv", "x;y", lambda source, _: f"{source.choice(['-', 'N.A.', *values])};{source.choice('ab')}"
    )
    found = guess_file(path, "y")
    assert sorted(found.source["null_values"]) == ["-", "N.A."]
    assert kinds_of(found)["x"] in ("numeric", "time")


def test_dash_beside_true_and_false_is_a_category(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice(['true', 'false', '-'])},{source.choice('ab')}"
    )
    assert "null_values" not in guess_file(path, "y").source


def test_column_of_nothing_but_marks_does_not_keep_them_from_others(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,z,y", lambda source, _: f"{source.choice(['-', '1.5', '2.5'])},-,{source.choice('ab')}"
    )
    assert guess_file(path, "y").source["null_values"] == ["-"]
