"""Text files of all forms, read as they are written."""

from __future__ import annotations

import gzip
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import DataError
from farandole.spec import CsvSource
from tests.support.guesses import guess_file, job_of, kinds_of, left_out_of, two_columns
from tests.support.odd_tables import write_table


@pytest.mark.parametrize(
    ("name", "header", "separator", "encoding", "source"),
    [
        ("a.csv", "x;y", ";", "utf-8", {"separator": ";"}),
        ("a.tsv", "x\ty", "\t", "utf-8", {"separator": "\t"}),
        ("a.txt", "x|y", "|", "utf-8", {"separator": "|"}),
        ("a.csv", "größe,y", ",", "latin-1", {"encoding": "cp1252"}),
        ("a.csv", "größe,y", ",", "utf-16", {"encoding": "utf-16"}),
        ("a.csv", "x,y", ",", "utf-8-sig", {}),
        ("a.csv", "", ",", "utf-8", {"header": False}),
    ],
)
def test_text_file_is_read_as_it_is_written(
    tmp_path: Path, name: str, header: str, separator: str, encoding: str, source: dict[str, Any]
) -> None:
    path = write_table(
        tmp_path / name,
        header,
        lambda random, _: f"{random.random():.3f}{separator}{random.choice('ab')}",
        encoding=encoding,
    )
    found = guess_file(path)
    assert found.source == {"format": "csv"} | source
    assert found.rows == 200
    assert len(found.features) == 1
    job = job_of(path)
    assert job.data.label is not None
    assert job.data.label.kind == "binary"


def test_compressed_files_are_read(tmp_path: Path, farandole_home: Path) -> None:
    text = write_table(tmp_path / "t.csv", "x,y", two_columns).read_bytes()
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("inside.csv", text)
    for name in ("t.csv.gz", "t.csv.zip"):
        found = guess_file(tmp_path / name, "y")
        assert (found.name, found.rows, kinds_of(found)) == ("t", 200, {"x": "numeric"})


def test_decimal_commas_become_numbers_by_a_query(tmp_path: Path) -> None:
    def row(source: random.Random, _: int) -> str:
        return f"{source.randint(1, 9)}.{source.randint(100, 999)},5;{source.choice('ab')}"

    path = write_table(tmp_path / "t.csv", "preis;ort", row)
    found = guess_file(path, "ort")
    assert kinds_of(found) == {"preis": "numeric"}
    assert found.query is not None
    assert "replace(regexp_replace(`preis`, '[^0-9,+-]', ''), ',', '.')" in found.query


def test_rows_that_cannot_be_read_are_dropped_and_mentioned(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, number: "1,2,3" if number == 50 else two_columns(source, number)
    )
    found = guess_file(path, "y")
    assert found.source["malformed"] == "drop"
    assert found.notes == ("1 row cannot be read, to be left out (t.csv: line 52: wrong number of fields)",)


def test_columns_of_directories_become_features(tmp_path: Path) -> None:
    for year in (2023, 2024):
        write_table(tmp_path / "in" / f"year={year}" / "t.csv", "x,y", two_columns)
    found = guess_file(tmp_path / "in", "y")
    assert found.rows == 400
    assert kinds_of(found) == {"x": "numeric", "year": "numeric"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give a file with a header and rows"),
        (b"\n\n", "is empty"),
        (b"x,y\n", "holds no rows below its header"),
        (bytes(range(256)), "is not text; give a CSV, Parquet or JSON file, or a folder of images"),
        (b"x,x,y\n" + b"1,2,3\n1,2,4\n" * 20, "the header names x twice"),
        (b"y\n" + b"".join(b"%d.5\n" % number for number in range(50)), "no column is left to predict y from"),
        (b"x,y\n" + b"1.5,2.5\n2.5,3.5\n" * 4, "--label y: 8 rows have one, too few to train"),
        (b"x,y\n" + b"1,2,3\n" * 20, "line 1 has 2 fields, and the lines below have 3; write the name that is missing"),
        (
            b"# made by hand\n#\nx,y\n" + b"1,2\n" * 20,
            "line 1 has 1 field, and the lines below have 2; remove the 2 lines above",
        ),
        (b"x,y\n1,2\n", "1 row: too few to train, to validate and to test; give at least 20"),
        (b"PAR1 but no more", "is not a whole Parquet file"),
    ],
    ids=["empty", "blank", "header", "binary", "twice", "one column", "few rows", "fields", "title", "row", "parquet"],
)
def test_file_without_a_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    if content.startswith(b"PAR1"):
        (tmp_path / "t.csv").rename(tmp_path / "t")
    with pytest.raises(DataError, match=message):
        guess_file(next(tmp_path.iterdir()))


def test_line_breaks_in_quotes_are_found_wherever_they_begin(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "x,note,y",
        lambda source, number: (
            f"{source.random():.3f},{'short' if number < 300 else chr(34) + 'two' + chr(10) + 'lines' + chr(34)},"
            f"{source.choice('ab')}"
        ),
        500,
    )
    found = guess_file(path, "y")
    assert found.source["multiline"] is True
    assert "malformed" not in found.source
    assert found.rows == 500


def test_rows_are_dropped_one_by_one_where_line_breaks_do_not_explain_them(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, number: '1,"2' if number == 250 else two_columns(source, number), 500
    )
    found = guess_file(path, "y")
    assert found.source == {"format": "csv", "malformed": "drop"}
    assert found.rows == 499


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "x,,y,", lambda source, _: f"{source.random():.3f},7,{source.choice('ab')},")
    assert left_out_of(guess_file(path, "y")) == dict.fromkeys(
        ("(column 2)", "(column 4)"), "has no name; write one into the first line to use it"
    )


def test_thousands_of_a_file_with_decimal_commas_are_declared_as_text(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        ";".join([*(f"einwohner {number}" for number in range(60)), "y"]),
        lambda source, _: ";".join([*(source.choice(["343", "62.503"]) for _ in range(60)), source.choice("ab")]),
    )
    source = job_of(path, "y").data.sources["data"]
    assert isinstance(source, CsvSource)
    assert source.columns is not None
    assert set(source.columns.values()) == {"string"}


def test_columns_of_the_same_name_are_left_out(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,a,x,y", lambda source, n: f"1,{source.random():.3f},2,{two_columns(source, n)[-1]}"
    )
    found = guess_file(path, "y")
    assert left_out_of(found) == {"x": "the header names x twice; change the first line to use it"}
    source = job_of(path, "y").data.sources["data"]
    assert isinstance(source, CsvSource)
    assert source.columns == {"a": "double", "y": "string"}
    with pytest.raises(DataError, match="--label x: the header names x twice; change the first line to use it"):
        guess_file(path, "x")


def test_header_of_one_name_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "x,x", two_columns)
    with pytest.raises(DataError, match="the header names x twice; fix the first line"):
        guess_file(path)
