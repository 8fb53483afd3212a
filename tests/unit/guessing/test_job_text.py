"""The job file that is written."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.errors import SpecError
from farandole.guessing.guess import job_name
from farandole.guessing.job_text import MAX_LINES, job_text, write_job_file
from farandole.guessing.resolve import resolve_guesses
from farandole.spec import CsvSource
from tests.support.guesses import guess_file, job_of, kinds_of, two_columns
from tests.support.odd_tables import write_table


@pytest.mark.parametrize("columns", [1, 10, 40, 500])
def test_job_file_has_at_most_sixty_lines(tmp_path: Path, columns: int) -> None:
    header = ",".join([*(f"a rather long name {number}" for number in range(columns)), "y"])
    path = write_table(
        tmp_path / "t.csv", header, lambda source, _: ",".join(f"{source.random():.3f}" for _ in range(columns + 1))
    )
    found = guess_file(path, "y", kind="regression")
    text = job_text(found, tmp_path)
    assert len(text.splitlines()) <= MAX_LINES
    assert len(found.features) == columns
    job = job_of(path, "y")
    assert len(job.data.features) == columns or job.data.auto_features is not None


@pytest.mark.parametrize(
    "name", ["no", "on", "null", "12", "a: b", "# x", "'", '"', "{", "*a", "größe", "tab\there", "%", "- a"]
)
def test_any_name_survives_the_job_file(tmp_path: Path, name: str) -> None:
    table = pa.table({name: np.random.default_rng(0).random(60), "y": ["a", "b"] * 30})
    pq.write_table(table, tmp_path / "t.parquet")
    job = job_of(tmp_path / "t.parquet", "y")
    assert [feature.column or key for key, feature in job.data.features.items()] == [name]
    swapped = table.rename_columns(["x", name])
    pq.write_table(swapped, tmp_path / "t.parquet")
    label = job_of(tmp_path / "t.parquet", name).data.label
    assert label is not None
    assert label.column == name


def test_job_file_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    found = guess_file(write_table(tmp_path / "t.csv", "x,y", two_columns), "y")
    path = write_job_file(found, tmp_path / "job")
    with pytest.raises(SpecError, match=r"exists already; add --force to replace it"):
        write_job_file(found, tmp_path / "job")
    assert write_job_file(found, tmp_path / "job", force=True) == path


def test_job_file_does_not_go_into_the_folder_of_the_data(tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "t.csv", "x,y", two_columns)
    with pytest.raises(SpecError, match="is in the folder of the data, all of whose files are read"):
        write_job_file(guess_file(tmp_path / "in", "y"), tmp_path / "in" / "job")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/My Data (2).csv", "my-data-2"),
        ("/a/flights.csv.zip", "flights"),
        ("/a/b/*.parquet", "b"),
        ("/a/größe.csv", "grosse"),
        ("/a/___.csv", "job"),
    ],
)
def test_job_is_named_like_its_data(path: str, name: str) -> None:
    assert job_name(path) == name


def test_same_files_give_the_same_guesses(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "x,y", two_columns)
    assert job_text(guess_file(path), tmp_path) == job_text(guess_file(path), tmp_path)


def test_first_column_without_a_name_is_not_used(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "r.csv", '"","speed","y"', lambda source, number: f'"{number + 1}",{two_columns(source, number)}'
    )
    assert kinds_of(guess_file(path, "y")) == {"speed": "numeric"}
    assert list(job_of(path, "y").data.features) == ["speed"]


def test_json_array_is_read_like_lines(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"x": number / 3, "y": number % 2 == 0} for number in range(60)]))
    assert kinds_of(guess_file(tmp_path / "t.json", "y")) == {"x": "numeric"}


def test_infinite_numbers_are_read_as_missing(tmp_path: Path) -> None:
    numbers = [float("inf") if number == 3 else number / 4 for number in range(60)]
    pq.write_table(pa.table({"x": numbers, "y": ["a", "b"] * 30}), tmp_path / "t.parquet")
    found = guess_file(tmp_path / "t.parquet", "y")
    assert found.features[0].spec["indicator"]
    assert found.query is not None
    assert "IF(abs(`x`) = DOUBLE('Infinity'), NULL, `x`) AS `x`" in found.query
    path = write_table(tmp_path / "t.csv", "x,y", lambda source, n: "inf,a" if n == 3 else two_columns(source, n))
    assert guess_file(path, "y").source["null_values"] == ["inf"]


@pytest.mark.parametrize("columns", [4, 58, 500])
def test_file_without_a_header_declares_all_columns(tmp_path: Path, columns: int) -> None:
    path = write_table(
        tmp_path / "spam.data", "", lambda source, _: ",".join(f"{source.random():.3f}" for _ in range(columns))
    )
    found = guess_file(path, "column_1")
    assert len(job_text(found, tmp_path).splitlines()) <= MAX_LINES
    source = job_of(path, "column_1").data.sources["data"]
    assert isinstance(source, CsvSource)
    assert source.columns is not None
    assert list(source.columns) == [f"column_{number}" for number in range(1, columns + 1)]


@pytest.mark.parametrize("written", [1, 90])
def test_wide_table_names_the_features_of_converted_columns(tmp_path: Path, written: int) -> None:
    header = ",".join(
        [*(f"price_{number}" for number in range(written)), *(f"x_{number}" for number in range(90)), "y"]
    )

    def row(source: random.Random, _: int) -> str:
        prices = [f'"${source.randint(1, 9)},234.50"' for _ in range(written)]
        return ",".join([*prices, *(f"{source.random():.3f}" for _ in range(90)), source.choice(["a", "b", ""])])

    path = write_table(tmp_path / "t.csv", header, row)
    assert len(job_text(guess_file(path, "y"), tmp_path).splitlines()) <= MAX_LINES
    job = job_of(path, "y")
    assert job.data.auto_features is not None
    assert list(job.data.features) == [f"price_{number}" for number in range(written)]
    assert len(resolve_guesses(job).job.data.features) == written + 90


def test_job_file_with_everything_has_at_most_sixty_lines(tmp_path: Path) -> None:
    """Fill every part of a job file: options, columns, conversions, left-out columns, leaks and features."""
    written = [f"price {number}" for number in range(5)]
    constant = [f"constant {number}" for number in range(9)]
    header = ";".join(["größe", "tag", "leak", *written, *constant, *(f"x {number}" for number in range(30)), "y"])

    def row(source: random.Random, number: int) -> str:
        label = source.choice(["a", "b", "c", ""])
        cells = ["NA" if number == 4 else f"{source.random():.2f}", f"{1 + number % 28}.12.2024", label or "d"]
        cells += [f"{source.randint(1, 9)}.{source.randint(100, 999)},5 €" for _ in written]
        cells += ["1" for _ in constant] + [f"{source.random():.3f}" for _ in range(30)]
        return ";".join([*cells, "rare" if number == 7 else label])

    path = write_table(tmp_path / "t.csv", header, row, encoding="cp1252")
    path.write_bytes(path.read_bytes() + b"1;2;3\n")
    found = guess_file(path, "y")
    assert len(job_text(found, tmp_path).splitlines()) <= MAX_LINES
    assert len(resolve_guesses(job_of(path, "y")).job.data.features) == len(found.features)


def test_job_file_that_no_command_accepts_is_not_written(tmp_path: Path) -> None:
    found = guess_file(write_table(tmp_path / "t.csv", "x,y", two_columns), "y")
    with pytest.raises(SpecError, match=r"job\.yaml: "):
        write_job_file(dataclasses.replace(found, builder="no builder: at all"), tmp_path / "job")
    assert not (tmp_path / "job").exists()
