from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.bundle import Bundle, open_bundle
from farandole.errors import DataError, UserError
from farandole.serving.csv_rows import (
    CsvFormat,
    CsvOptions,
    csv_format,
    line_of_row,
    read_header,
    read_texts,
    separator_hint,
    source_of_rows,
)
from tests.support.bundles import write_small_bundle
from tests.support.served import make_bundle

DEFAULT = CsvOptions()


def bundle_of(folder: Path, source: dict[str, Any], query: str | None = None) -> Bundle:
    """Return a bundle whose job declares a source `flights`."""
    job = {
        "name": "flights",
        "data": {
            "sources": {"flights": source},
            "query": query,
            "features": {"distance": {"kind": "numeric"}},
            "label": {"column": "late", "kind": "binary"},
        },
        "model": {"builder": "farandole.models.mlp:build"},
    }
    return make_bundle(folder / "bundle", documents={"lineage.json": {"job": job}})


def write(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path, csv: CsvFormat, *columns: str) -> list[dict[str, Any]]:
    return [row for batch in read_texts(path, csv, columns) for row in batch.to_pylist()]


def test_files_are_read_as_the_source_is_declared(tmp_path: Path) -> None:
    declared = {"path": "/f.csv", "separator": ";", "quote": "'", "encoding": "latin-1", "columns": {"a": "int"}}
    bundle = bundle_of(tmp_path, declared)
    assert csv_format(bundle, "flights", DEFAULT) == CsvFormat(";", "'", "iso8859-1")
    assert csv_format(bundle, None, DEFAULT) == CsvFormat(), "the columns of a query come from elsewhere"


def test_options_come_before_the_declaration(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, {"path": "/f.csv", "separator": ";", "header": False, "columns": {"a": "int"}})
    assert csv_format(bundle, "flights", DEFAULT).columns == ("a",)
    options = CsvOptions("|", "cp1252", True, (), ("NA",))
    assert csv_format(bundle, "flights", options) == CsvFormat("|", '"', "cp1252", None, ("NA",))
    assert csv_format(bundle, "flights", CsvOptions(columns=("x", "y"))).columns == ("x", "y")


def test_a_file_without_a_header_needs_names(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, {"path": "/f.csv", "columns": {"a": "int"}})
    with pytest.raises(UserError, match="--no-header: the names of the columns are unknown"):
        csv_format(bundle, "flights", CsvOptions(header=False))
    with pytest.raises(UserError, match="--columns: names the columns of files without a header"):
        csv_format(bundle, "flights", CsvOptions(header=True, columns=("a",)))
    assert csv_format(bundle, "flights", CsvOptions(columns=("a", "b"))).columns == ("a", "b")


def test_the_source_of_a_job_without_a_query_is_its_only_one(tmp_path: Path) -> None:
    assert source_of_rows(bundle_of(tmp_path, {"path": "/f.csv"})) == "flights"
    assert source_of_rows(open_bundle(write_small_bundle(tmp_path / "small"))) is None


def test_options_that_are_given_are_named_as_on_the_command_line() -> None:
    assert CsvOptions(";", null_values=("NA",), header=False).given == ["--separator", "--header", "--null-value"]
    assert DEFAULT.given == []


def test_rows_are_texts_with_missing_values(tmp_path: Path) -> None:
    path = write(tmp_path, "a|b\n1|NA\n|x\n")
    csv = CsvFormat("|", null_values=("NA",))
    assert read_header(path, csv) == ["a", "b"]
    assert rows_of(path, csv, "b", "a") == [{"b": None, "a": "1"}, {"b": "x", "a": None}]


def test_the_name_of_a_file_chooses_the_separator(tmp_path: Path) -> None:
    assert read_header(write(tmp_path, "a\tb\n", "rows.tsv"), CsvFormat()) == ["a", "b"]
    assert read_header(write(tmp_path, "a,b\n"), CsvFormat()) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "csv", "message"),
    [
        (b"a\nM\xfcnchen\n", CsvFormat(), r"rows\.csv: line 2: is not utf-8 text \(byte 0xfc\); name .* --encoding"),
        ("a\n1\n".encode("utf-16"), CsvFormat(), r"byte order mark of utf-16, yet is read as utf-8; use --encoding"),
        (b"", CsvFormat(), r"rows\.csv: is empty"),
        (b"a,b\n1,2\n3\n", CsvFormat(), r"rows\.csv: line 3: wrong number of fields \(1 fields where there are 2"),
        (b"1,2\n1,2,3\n", CsvFormat(columns=("a", "b")), r"rows\.csv: line 2: wrong number of fields"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, content: bytes, csv: CsvFormat, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=message):
        rows_of(path, csv, "a")


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (CsvFormat(separator=";;"), "--separator ';;': "),
        (CsvFormat(encoding="latin-99"), "--encoding 'latin-99': not a text encoding"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, csv: CsvFormat, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_header(write(tmp_path, "a\n"), csv)


def test_the_line_of_a_row_counts_line_breaks_in_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b\r\n1,"x\r\ny"\r\n\r\n2,z\r\n')
    assert [line_of_row(path, CsvFormat(), row) for row in range(3)] == [2, 5, None]
    assert line_of_row(write(tmp_path, "1,2\n3,4\n"), CsvFormat(columns=("a", "b")), 1) == 2


def test_a_header_of_another_separator_is_recognised() -> None:
    assert separator_hint(["a;b"]) == "its only column is 'a;b'; if that are several, use --separator"
    assert separator_hint(["a", "b"]) is None
    assert separator_hint(["a"]) is None
