"""Files of all forms, read as they are written."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from farandole.errors import DataError
from farandole.guessing.job_text import write_job_file
from farandole.spec import load_job
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


def test_parquet_and_json_are_read(tmp_path: Path) -> None:
    rows = [
        {"x": n / 3, "word": "uv"[n % 2], "when": f"2024-01-{1 + n % 28:02d}", "y": n % 3 == 0, "part": {"a": 1}}
        for n in range(90)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "array.json").write_text(json.dumps(rows))
    for name in ("t.parquet", "t.jsonl"):
        found = guess_file(tmp_path / name, "y")
        assert {"x": "numeric", "word": "categorical"}.items() <= kinds_of(found).items()
        assert "select its parts" in left_out_of(found)["part"]
        assert found.label.kind == "binary"
    assert kinds_of(guess_file(tmp_path / "t.jsonl", "y"))["when"] == "time"


def test_columns_of_directories_become_features(tmp_path: Path) -> None:
    for year in (2023, 2024):
        write_table(tmp_path / "in" / f"year={year}" / "t.csv", "x,y", two_columns)
    found = guess_file(tmp_path / "in", "y")
    assert found.rows == 400
    assert kinds_of(found) == {"x": "numeric", "year": "numeric"}


def test_folders_of_images_become_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (30, 20), number).save(tmp_path / "in" / name / f"{number}.png")
    found = guess_file(tmp_path / "in")
    assert found.label.spec == {"column": "label", "kind": "binary"}
    assert found.features[0].spec == {"kind": "image", "size": [20, 30], "mode": "gray"}
    assert found.builder == "farandole.models.cnn:build"
    assert load_job(write_job_file(found, tmp_path / "job")).network.builder == "farandole.models.cnn:build"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give a file with a header and rows"),
        (b"\n\n", "is empty"),
        (b"x,y\n", "holds no rows below its header"),
        (bytes(range(256)), "is not text; give a CSV, Parquet or JSON file, or a folder of images"),
        (b"x,x,y\n1,2,3\n", "the header names x twice"),
        (b"y\n" + b"".join(b"%d.5\n" % number for number in range(50)), "no column is left to predict y from"),
        (b"x,y\n" + b"1.5,2.5\n2.5,3.5\n" * 4, "--label y: 8 rows have one, too few to train"),
        (b"x,y\n" + b"1,2,3\n" * 20, "line 2: wrong number of fields"),
        (b"PAR1 but no more", "is not a whole Parquet file"),
    ],
    ids=["empty", "blank", "header", "binary", "twice", "one column", "few rows", "fields", "parquet"],
)
def test_file_without_a_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    if content.startswith(b"PAR1"):
        (tmp_path / "t.csv").rename(tmp_path / "t")
    with pytest.raises(DataError, match=message):
        guess_file(next(tmp_path.iterdir()))


def test_folder_of_several_formats_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", "x,y", two_columns)
    (tmp_path / "b.json").write_text('{"x": 1}\n')
    with pytest.raises(DataError, match=r"several formats: csv \(a.csv\) and json \(b.json\); name one"):
        guess_file(tmp_path)
