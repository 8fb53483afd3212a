"""The label and its kind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from farandole.errors import DataError
from tests.support.guesses import guess_file, job_of, two_columns
from tests.support.odd_tables import Row, write_table


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (lambda source, _: source.choice(["Yes", "No"]), {"kind": "binary", "positive": "Yes"}),
        (lambda source, _: source.choice(["good", "bad"]), {"kind": "binary", "positive": "bad"}),
        (lambda source, _: source.choice(["yes", "Yes", "NO"]), {"kind": "binary"}),
        (lambda source, _: source.choice("01"), {"kind": "binary"}),
        (lambda source, _: source.choice(["true", "false"]), {"kind": "binary"}),
        (lambda source, _: source.choice("abcd"), {"kind": "multiclass"}),
        (lambda source, _: str(source.randint(3, 8)), {"kind": "multiclass"}),
        (lambda source, _: f"{source.randint(3, 8)}.0", {"kind": "multiclass"}),
        (lambda source, _: source.choice("468"), {"kind": "multiclass"}),
        (lambda source, _: source.choice(["0", "1", "2", "3", "7", "12"]), {"kind": "regression"}),
        (lambda source, _: str(source.randint(0, 500)), {"kind": "regression"}),
        (lambda source, _: f"{source.random():.4f}", {"kind": "regression"}),
        (lambda source, _: f"€{source.randint(10, 999)}.90", {"kind": "regression"}),
    ],
    ids=range(13),
)
def test_kind_of_the_label_follows_from_its_values(tmp_path: Path, row: Row, expected: dict[str, str]) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,target", lambda source, number: f"{source.random():.3f},{row(source, number)}"
    )
    found = guess_file(path)
    assert found.label.spec == {"column": "target"} | expected
    assert job_of(path, "target").data.label is not None


@pytest.mark.parametrize(
    ("header", "label"),
    [
        ("target,a,b", "target"),
        ("a,b,churn", "churn"),
        ("a,price,b", "price"),
        ("rownames,a,b", "b"),
        ("a,b,user_id", "b"),
    ],
)
def test_label_is_guessed_by_name_or_position(tmp_path: Path, header: str, label: str) -> None:
    def row(source: random.Random, number: int) -> str:
        ids = {"rownames", "user_id"}
        return ",".join(str(number + 1) if name in ids else f"{source.random():.3f}" for name in header.split(","))

    found = guess_file(write_table(tmp_path / "t.csv", header, row))
    assert found.label.column == label
    assert set(found.label.alternatives) == set(header.split(",")) - {label, "rownames", "user_id"}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("prize", r"--label prize: there is no such column; did you mean price\?"),
        ("constant", r"--label constant: every value is 1; choose a column with different values"),
        ("name", r"--label name: 60 different texts in 60 rows are neither classes nor numbers"),
        ("rare", r"--label rare: the class 'b' has 2 rows, too few to train, to validate and to test"),
    ],
)
def test_column_that_cannot_be_the_label_is_refused(tmp_path: Path, label: str, message: str) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "price,constant,name,rare",
        lambda source, number: f"{source.random():.3f},1,name {number},{'ab'[number < 2]}",
        60,
    )
    with pytest.raises(DataError, match=message):
        guess_file(path, label)


def test_rows_without_a_label_and_rare_classes_are_left_out_by_a_query(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "x,y",
        lambda source, number: (
            f"{source.random():.3f},{'it' + chr(39) + 's' if number < 2 else source.choice(['', 'a', 'b'])}"
        ),
    )
    query = job_of(path, "y").data.query
    assert query == "SELECT *\nFROM data\nWHERE `y` IS NOT NULL AND `y` NOT IN ('it\\'s')\n"


def test_column_with_a_reserved_name_cannot_be_the_label(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "z,x,_farandole_y", lambda source, n: f"{n / 7},{two_columns(source, n)}")
    with pytest.raises(DataError, match="--label _farandole_y: names that begin with _farandole_ are reserved; rename"):
        guess_file(path, "_farandole_y")
    assert guess_file(path).label.column in ("x", "z")
