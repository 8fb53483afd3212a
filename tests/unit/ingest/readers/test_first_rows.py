"""The first rows of sources, read without Spark."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.ingest.readers.first_rows import first_rows
from farandole.ingest.sources.files import find_files
from farandole.spec import CsvSource, JsonSource, ParquetSource, Source


def read(source: Source, limit: int = 3) -> dict[str, list[Any]] | None:
    rows = first_rows("s", source, find_files("s", source), limit)
    found: dict[str, list[Any]] | None = None if rows is None else rows.to_pydict()
    return found


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_first_rows_of_csv_are_text(tmp_path: Path, name: str) -> None:
    content = "a.b,mail\n" + "".join(f"{number},u{number}@example.org\n" for number in range(200_000))
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    found = read(CsvSource(format="csv", path=str(path)))
    assert found == {"a.b": ["0", "1", "2"], "mail": [f"u{number}@example.org" for number in range(3)]}


def test_declared_columns_of_directories_do_not_prevent_the_search(tmp_path: Path) -> None:
    path = tmp_path / "year=2019" / "a.csv"
    path.parent.mkdir()
    path.write_text("mail\nada@example.org\n", encoding="utf-8")
    columns = {"mail": "string", "year": "bigint"}
    source = CsvSource(format="csv", path=str(tmp_path), columns=columns)
    assert read(source) == {"mail": ["ada@example.org"]}


def test_first_rows_of_json_have_the_text_members(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"n": number, "t": f"t{number}"}) + "\n" for number in range(9)))
    assert read(JsonSource(format="json", path=str(path))) == {"t": ["t0", "t1", "t2"]}


def test_first_rows_of_parquet_have_all_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a.b": ["x", "y", "z", "w"], "n": [1, 2, 3, 4]}), path)
    assert read(ParquetSource(format="parquet", path=str(path))) == {"a.b": ["x", "y", "z"], "n": [1, 2, 3]}


def test_file_that_cannot_be_read_is_left_to_the_preparation(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"no parquet")
    assert read(ParquetSource(format="parquet", path=str(path))) is None
