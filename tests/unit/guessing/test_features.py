"""Features that columns become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.guesses import guess_file, job_of, kinds_of, left_out_of, two_columns
from tests.support.odd_tables import Row, write_table


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (lambda source, _: f"{source.random():.3f}", "numeric"),
        (lambda source, _: f"{source.randint(1, 5)}", "numeric"),
        (lambda source, _: f"{source.random():.2f}0", "numeric"),  # 0.120 is a spelling that no type keeps
        (lambda source, _: f"{source.randint(1, 9)}E2", "numeric"),
        (lambda source, _: f"${source.randint(1, 9)},{source.randint(100, 999)}.50", "numeric"),
        (lambda source, _: f"{source.randint(1, 99)}%", "numeric"),
        (lambda source, _: f"{source.randint(1, 40):05d}", "categorical"),  # codes with leading zeros
        (lambda source, _: source.choice(["Oslo", "Rom", "Wien"]), "categorical"),
        (lambda source, _: source.choice(["TRUE", "False", "true"]), "categorical"),
        (lambda _, number: f"2024-{1 + number % 12:02d}-{1 + number % 28:02d}", "time"),
        (lambda _, number: f"{1 + number % 12}/{1 + number % 28}/2024", "time"),
        (lambda _, number: f"{1 + number % 28}.{1 + number % 12}.2024", "time"),
        (lambda _, number: f"{1 + number % 28:02d}-Jan-2024 {number % 24:02d}:00", "time"),
        (lambda source, _: " ".join(source.choice(["good", "bad", "plot", "film"]) for _ in range(20)), "text"),
    ],
    ids=range(14),
)
def test_column_becomes_a_feature(tmp_path: Path, row: Row, kind: str) -> None:
    path = write_table(
        tmp_path / "t.csv", "y,x", lambda source, number: f'{source.choice("ab")},"{row(source, number)}"'
    )
    assert kinds_of(guess_file(path, "y")) == {"x": kind}


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("rownames", lambda _, number: str(number + 1), "numbers the rows"),
        ("Unnamed: 0", lambda _, number: str(number), "numbers the rows"),
        ("customer_id", lambda _, number: str(900_000 + number * 7 % 1000), "an id"),
        ("userId", lambda _, number: str(5_000 - number), "an id"),
        ("constant", lambda *_: "7", "every value is 7"),
        ("empty", lambda *_: "", "all values are missing"),
        ("rare", lambda _, number: "3" if number == 5 else "", "of the values are missing"),
        ("name", lambda _, number: f"Name {number}", "almost every row has another text"),
        ("_farandole_z", lambda source, _: str(source.random()), "names that begin with _farandole_ are reserved"),
        ("_FARANDOLE_split", lambda source, _: source.choice("uv"), "are reserved; rename the column in a `query`"),
        ("Kunden-Nr", lambda _, number: str(5_000 + number), "an id"),
        ("account", lambda _, number: str(12_345_678_901_234_567_890 + number), "almost every row has another text"),
    ],
)
def test_column_is_left_out_for_a_reason(tmp_path: Path, name: str, row: Row, reason: str) -> None:
    path = write_table(
        tmp_path / "t.csv",
        f"y,x,{name}",
        lambda source, number: f"{two_columns(source, number)[::-1]},{row(source, number)}",
    )
    found = guess_file(path, "y")
    assert reason in left_out_of(found)[name]
    assert name not in kinds_of(found)


def test_numbers_with_gaps_get_an_indicator(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice(['NA', '1.5', '2.5'])},{source.choice('ab')}"
    )
    feature = guess_file(path, "y").features[0]
    assert feature.spec == {"kind": "numeric", "scale": "robust_smooth", "indicator": True}
    assert "missing" in feature.note


def test_names_become_identifiers_that_differ(tmp_path: Path) -> None:
    header = "a.b,a b,A_B,1x,label,größe,y"
    path = write_table(
        tmp_path / "t.csv", header, lambda source, _: ",".join(f"{source.random():.3f}" for _ in range(7))
    )
    found = guess_file(path, "y")
    assert [feature.column for feature in found.features] == ["a.b", "a b", "A_B", "1x", "label", "größe"]
    names = [feature.name for feature in found.features]
    assert all(name.isidentifier() and name.isascii() for name in names)
    assert len({name.lower() for name in names}) == len(names)
    assert "label" not in names
    features = job_of(path, "y").data.features
    assert [feature.column or name for name, feature in features.items()] == header.split(",")[:-1]


def test_names_differ_from_those_of_columns_that_features_make(tmp_path: Path) -> None:
    """Rename a column called like the indicator of another, whichever comes first; else the job would be refused."""
    header = "x,x_missing,z_missing,z,y"

    def row(source: Any, _: int) -> str:
        gaps = [source.choice(["", "1.5", "2.5"]) for _ in range(2)]
        numbers = [f"{source.random():.3f}" for _ in range(2)]
        return f"{gaps[0]},{numbers[0]},{numbers[1]},{gaps[1]},{source.choice('ab')}"

    path = write_table(tmp_path / "t.csv", header, row)
    features = job_of(path, "y").data.features  # it is valid
    assert [feature.column or name for name, feature in features.items()] == header.split(",")[:-1]
    assert [*features] == ["x", "x_missing_2", "z_missing", "z_2"]
