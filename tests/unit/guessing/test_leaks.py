"""Columns that alone predict the label."""

from __future__ import annotations

import random
from pathlib import Path

from farandole.guessing.job_text import job_text
from tests.support.guesses import guess_file
from tests.support.odd_tables import write_table


def test_column_that_alone_predicts_the_label_is_a_leak(tmp_path: Path) -> None:
    def row(source: random.Random, number: int) -> str:
        label = source.randint(0, 1)
        return (
            f"{source.random() + label:.3f},{label * 3},{'uv'[label]},{source.random() + 0.1 * label:.3f},{'ab'[label]}"
        )

    path = write_table(tmp_path / "t.csv", "near,copy,word,weak,y", row, 400)
    found = guess_file(path, "y")
    assert {leak.column for leak in found.leaks} == {"near", "copy", "word"}
    assert "leak the label" in job_text(found, tmp_path)


def test_number_in_another_unit_is_a_leak(tmp_path: Path) -> None:
    def row(source: random.Random, number: int) -> str:
        celsius = source.uniform(-10, 40)
        return f"{celsius * 1.8 + 32:.4f},{source.random():.3f},{celsius:.4f}"

    assert [leak.column for leak in guess_file(write_table(tmp_path / "t.csv", "f,x,c", row, 2000), "c").leaks] == ["f"]
