from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import DataError
from farandole.ingest.readers.csv_headers import check_header, read_headers
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource
from tests.support.ingest_inputs import HEADER, SMALL, Write


def csv(path: Path | str, **fields: Any) -> CsvSource:
    return CsvSource(path=str(path), **fields)


def header_refused(*paths: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        check_header("rows", csv(paths[0], **fields), SourceFiles("rows", paths))
    return str(caught.value)


# Headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ("a,b c,d\n1,2,3\n", {}),
        ("a,b c,d", {}),
        ("\ufeffa,b c,d\r\n1,2,3\r\n", {}),
        ('"a","b c",d\n1,2,3\n', {}),
        ("a|b c|d\n1|2|3\n", {"separator": "|"}),
        ("'a','b c',d\n", {"quote": "'"}),
    ],
)
def test_the_columns_come_from_the_first_line(write: Write, content: str, fields: dict[str, Any]) -> None:
    path = write("a.csv", content)
    assert check_header("rows", csv(path, **fields), SourceFiles("rows", (path,))) == ["a", "b c", "d"]


def test_a_compressed_header_is_read(write: Write) -> None:
    path = write("a.csv.gz", gzip.compress(b"a,b\n1,2\n"))
    assert check_header("rows", csv(path), SourceFiles("rows", (path,))) == ["a", "b"]


def test_without_a_header_the_declared_columns_are_used(write: Write) -> None:
    path = write("a.csv", "1,2\n")
    source = csv(path, header=False, columns={"x": "int", "y": "int"})
    assert check_header("rows", source, SourceFiles("rows", (path,))) == ["x", "y"]
    assert header_refused(path, header=False) == (
        "data.sources.rows: without a header, `columns` must name the columns in file order"
    )


@pytest.mark.parametrize("content", ["", "\n", "\r\n\n"])
def test_an_empty_file_is_refused(write: Write, content: str) -> None:
    path = write("a.csv", content)
    assert header_refused(path) == f"{path}: is empty; data.sources.rows needs a first line with the column names"


def test_declared_column_that_the_header_lacks_is_reported_with_the_closest_name(write: Write) -> None:
    path = write()
    assert header_refused(path, columns={"colour": "string"}) == (
        f"{path}: the header has no column colour, declared in data.sources.rows; did you mean color?"
    )
    assert header_refused(path, columns={"xyz": "string"}).endswith("the header has id, size, color, bought")


def test_files_with_different_headers_are_refused(write: Write) -> None:
    first, second = write("a.csv", "a,b\n"), write("b.csv", "b,a\n")
    assert header_refused(first, second) == (
        f"{second}: the header is b, a, that of a.csv is a, b; all files of a source need the same columns in the same"
        " order, or declare in `columns` of data.sources.rows those that you use"
    )


def test_declared_columns_alone_are_compared(write: Write) -> None:
    paths = write("a.csv", "a,b\n"), write("b.csv", "b,c,a\n"), write("c.csv", ",a,c,c\n")
    files = SourceFiles("rows", paths)
    headers = read_headers("rows", csv(paths[0], columns={"a": "int"}), files)
    assert headers.first == ("a", "b")
    assert headers.others == {paths[1]: ("b", "c", "a"), paths[2]: ("", "a", "c", "c")}
    assert header_refused(*paths, columns={"b": "int"}).startswith(f"{paths[2]}: the header has no column b, declared")


def test_a_header_that_names_a_column_twice_is_refused_if_it_is_read(write: Write) -> None:
    path = write("a.csv", "a,b,a\n")
    assert header_refused(path) == (
        f"{path}: the header names a twice; fix the first line, or declare the other columns in `columns` of"
        " data.sources.rows"
    )
    assert header_refused(path, columns={"a": "int"}) == f"{path}: the header names a twice; fix the first line"
    assert read_headers("rows", csv(path, columns={"b": "int"}), SourceFiles("rows", (path,))).first == ("a", "b", "a")


@pytest.mark.parametrize(
    ("header", "named", "names"),
    [
        (",x,y", ["x", "y"], {"", "Unnamed: 0", "...1"}),
        ("a,,b,", ["a", "b"], {"", "Unnamed: 1", "...2", "Unnamed: 3", "...4"}),
        ('""', [], {"", "Unnamed: 0", "...1"}),
        ("a, ,b", ["a", " ", "b"], set()),
    ],
)
def test_columns_without_a_name_are_left_out_with_a_reason(
    write: Write, header: str, named: list[str], names: set[str]
) -> None:
    path = write("a.csv", f"{header}\n1,2,3,4\n")
    headers = read_headers("rows", csv(path), SourceFiles("rows", (path,)))
    assert headers.columns == named
    assert headers.unreadable.keys() == names
    if names:
        assert headers.unreadable[""].endswith("has no name; write one into the first line")
        assert header_refused(path, columns={"": "int"}) == (
            f"data.sources.rows.columns: a column without a name cannot be read; name it in {path}"
        )


def test_replacement_character_in_a_header_is_text(write: Write) -> None:
    path = write("a.csv", "a\ufffd,b\n1,2\n")
    assert check_header("rows", csv(path), SourceFiles("rows", (path,))) == ["a\ufffd", "b"]


def test_a_header_that_is_not_utf_8_is_refused(write: Write) -> None:
    path = write("a.csv", "a,pr\xe9nom\n1,2\n".encode("latin-1"))
    message = header_refused(path)
    assert message.startswith(f"{path}: the header is not UTF-8 text (")
    assert message.endswith("); save the file as UTF-8, or set `encoding` of data.sources.rows")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le"])
def test_a_header_is_read_in_its_encoding(write: Write, encoding: str) -> None:
    path = write("a.csv", "pr\xe9nom,b\n1,2\n".encode(encoding))
    assert check_header("rows", csv(path, encoding=encoding), SourceFiles("rows", (path,))) == ["pr\xe9nom", "b"]


def test_byte_order_mark_of_another_encoding_is_reported(write: Write) -> None:
    path = write("a.csv", "a,b\n1,2\n".encode("utf-16"))
    assert header_refused(path) == (
        f"{path}: begins with the byte order mark of utf-16, yet is read as utf-8; set `encoding: utf-16` in"
        " data.sources.rows"
    )


def test_a_header_with_a_line_break_needs_multiline(write: Write) -> None:
    path = write("a.csv", '"a\nb",c\n1,2\n')
    assert "has a line break in a quoted name" in header_refused(path)
    assert check_header("rows", csv(path, multiline=True), SourceFiles("rows", (path,))) == ["a\nb", "c"]


def test_header_of_many_long_columns_is_read(write: Write) -> None:
    names = [f"column {number}" for number in range(30_000)] + ["x" * 1_000_000]
    path = write("a.csv", ",".join(names) + "\n")
    assert check_header("rows", csv(path), SourceFiles("rows", (path,))) == names


def test_truncated_compressed_header_is_refused(write: Write) -> None:
    path = write("a.csv.gz", gzip.compress((HEADER + SMALL).encode())[:-20])
    assert header_refused(path).startswith(f"{path}: cannot be read (")


HEADERS: dict[str, tuple[str | bytes, str]] = {
    "an empty file": ("", "is empty"),
    "a repeated name": ("a,b,a\n", "names a twice"),
    "a line break in a name": ('a,"b\nc"\n', "has a line break in a quoted name"),
    "a column that is not there": ("b,c\n", "has no column a"),
    "NUL bytes in the header": ("a\0,b\n", "is not UTF-8 text"),
    "latin-1 in the header": (b"a,\xe9\n", "is not UTF-8 text"),
    "UTF-16 read as UTF-8": ("a,b\n".encode("utf-16"), "begins with the byte order mark of utf-16"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_malformed_header_is_reported(write: Write, name: str) -> None:
    content, message = HEADERS[name]
    path = write("a.csv", content)
    refusal = header_refused(path, columns={"a": "string"})
    assert refusal.startswith(f"{path}: ")
    assert message in refusal


@pytest.mark.parametrize("header", [True, False])
def test_declared_columns_of_directories_are_in_no_header(tmp_path: Path, header: bool) -> None:
    path = tmp_path / "year=2019" / "a.csv"
    path.parent.mkdir()
    path.write_text("x,y\n1,2\n" if header else "1,2\n", encoding="utf-8")
    source = csv(tmp_path, format="csv", header=header, columns={"x": "int", "year": "bigint", "y": "int"})
    assert read_headers("rows", source, SourceFiles("rows", (path,), tmp_path)).first == ("x", "y")
    only = csv(tmp_path, format="csv", header=header, columns={"year": "bigint"})
    with pytest.raises(DataError, match="declares only columns of directories; add one of the files"):
        read_headers("rows", only, SourceFiles("rows", (path,), tmp_path))
