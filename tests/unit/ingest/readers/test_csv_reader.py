"""Every CSV record is read exactly as it is written, or is reported: never a silent wrong value."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.csv_headers import check_header, read_headers
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.json_reader import JsonReader
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource
from tests.support.ingest_inputs import Write

Found = tuple[list[Any], list[tuple[int | None, str, str | None]]]


def read_csv(path: Path, types: dict[str, str], **fields: Any) -> Found:
    """Return the first column's values, and the malformed records: line, reason, column."""
    source = CsvSource(path=str(path), columns=types, **fields)
    header = check_header("rows", source, SourceFiles("rows", (path,)))
    assert source.columns is not None
    return _all(CsvReader(source, tuple(header), source.columns), path)


def _all(reader: CsvReader | JsonReader, path: Path) -> Found:
    values, malformed = [], []
    for rows in reader.read(ByteRange(path)):
        values += rows.batch.column(0).to_pylist()
        malformed += [(found.line, found.reason, found.column) for found in rows.malformed]
    return values, malformed


QUOTE, FIELDS, NUL, TEXT = "a quote out of place", "wrong number of fields", "NUL byte", "not utf-8 text"

SHAPES: dict[str, tuple[str | bytes, dict[str, Any], list[str | None], list[tuple[int, str]]]] = {
    # Each file has the columns a and b; column a of the good rows is compared.
    "too few fields": ("a,b\nx,1\ny\n", {}, ["x"], [(3, FIELDS)]),
    "too many fields": ("a,b\nx,1\ny,1,2\n", {}, ["x"], [(3, FIELDS)]),
    "a separator at the end": ("a,b\nx,1,\ny,2\n", {}, ["y"], [(2, FIELDS)]),
    "another separator": ("a,b\nx;1\ny,2\n", {}, ["y"], [(2, FIELDS)]),
    "a line of spaces": ("a,b\nx,1\n   \ny,2\n", {}, ["x", "y"], [(3, FIELDS)]),
    "30,000 fields": ("a,b\n" + "x," * 30_000 + "\ny,2\n", {}, ["y"], [(2, FIELDS)]),
    "blank lines": ("\n\na,b\n\nx,1\n\r\n\ny,2\n\n", {}, ["x", "y"], []),
    "an open quote": ('a,b\n"x,1\ny,2\n', {}, ["y"], [(2, QUOTE)]),
    "an open quote in the last field": ('a,b\nx,"1\ny,2\n', {}, ["y"], [(2, QUOTE)]),
    "an open quote with line breaks allowed": (
        'a,b\nx,"1\ny,2\nz,"3"\n',
        {"multiline": True},
        ["y", "z"],
        [(2, QUOTE)],
    ),
    "an open quote at the end": ('a,b\nx,1\ny,"2', {"multiline": True}, ["x"], [(3, QUOTE)]),
    "text behind a quote": ('a,b\n"x"y,1\nz,2\n', {}, ["z"], [(2, QUOTE)]),
    "a space behind a quote": ('a,b\n"x" ,1\nz,2\n', {}, ["z"], [(2, QUOTE)]),
    "a single quote inside quotes": ('a,b\n"x "y" z",1\nz,2\n', {}, ["z"], [(2, QUOTE)]),
    "a backslash before a quote": ('a,b\n"x\\"y",1\nz,2\n', {}, ["z"], [(2, QUOTE)]),
    "a line break in quotes": ('a,b\n"x\ny",1\nz,2\n', {"malformed": "drop"}, ["z"], [(2, QUOTE), (3, QUOTE)]),
    "quotes inside a bare field": ('a,b\n5" disk,1\nx"y"z,2\n', {}, ['5" disk', 'x"y"z'], []),
    "doubled quotes": ('a,b\n"""x""",1\n"a""b",2\n"",3\n', {}, ['"x"', 'a"b', None], []),
    "a space before a quote": ('a,b\n "x",1\n', {}, [' "x"'], []),
    "another quote": ("a,b\n'x,y',1\n\"z,2\n", {"quote": "'"}, ["x,y", '"z'], []),
    "a NUL byte": ("a,b\nx\0y,1\nz,2\n", {}, ["z"], [(2, NUL)]),
    "a line of NUL bytes": ("a,b\nx,1\n\0\0\0\n", {}, ["x"], [(3, NUL)]),
    "latin-1 read as UTF-8": (b"a,b\ncaf\xe9,1\nx,2\n", {}, ["x"], [(2, TEXT)]),
    "latin-1 in a column that is not read": (b"a,b,c\nx,1,caf\xe9\ny,2,z\n", {}, ["y"], [(2, TEXT)]),
    "latin-1 as declared": (b"a,b\ncaf\xe9,1\n", {"encoding": "latin-1"}, ["café"], []),
    "a byte that cp1252 lacks": (b"a,b\n\x81,1\nx,2\n", {"encoding": "cp1252"}, ["x"], [(2, "not cp1252 text")]),
    "half a surrogate pair": (b"a,b\nx\xed\xa0\x80,1\ny,2\n", {}, ["y"], [(2, TEXT)]),
    "an overlong NUL": (b"a,b\nx\xc0\x80,1\ny,2\n", {}, ["y"], [(2, TEXT)]),
    "a sign that is cut off": (b"a,b\nx,1\ny,\xe2\x82", {}, ["x"], [(3, TEXT)]),
    "the replacement sign itself": ("a,b\nx\ufffd,1\n", {}, ["x\ufffd"], []),
    "the replacement sign itself in another encoding": (
        "a,b\nx\ufffd,1\n\xe9,2\n".encode("gb18030"),
        {"encoding": "gb18030"},
        ["x\ufffd", "\xe9"],
        [],
    ),
    "a sign that is cut off in another encoding": (
        "a,b\nx\ufffd,1\n".encode("gb18030") + b"\x81,2\ny,3\n",
        {"encoding": "gb18030"},
        ["x\ufffd", "y"],
        [(3, "not gb18030 text")],
    ),
    "the replacement sign in the header": ("a,b\ufffd\nx,1\n", {}, ["x"], []),
    "UTF-16 as declared": ("a,b\né,1\n".encode("utf-16"), {"encoding": "utf-16"}, ["é"], []),
    "UTF-16 without a mark": ("a,b\né,1\n".encode("utf-16-be"), {"encoding": "utf-16-be"}, ["é"], []),
    "a byte order mark": ("\ufeffa,b\nx,1\n", {}, ["x"], []),
    "a byte order mark inside": ("a,b\nx,1\n\ufeffy,2\n", {}, ["x"], [(3, "a byte order mark inside the file")]),
    "CRLF, LF and CR": ("a,b\r\nx,1\ny,2\rz,3\r\n", {}, ["x", "y", "z"], []),
    "CR alone": ("a,b\rx,1\ry,2", {}, ["x", "y"], []),
    "CRLF, LF and CR, with line breaks allowed": ("a,b\r\nx,1\ny,2\rz,3\r\n", {"multiline": True}, ["x", "y", "z"], []),
    "line breaks kept in quotes": ('a,b\n"x\r\ny\nz\r",1\n', {"multiline": True}, ["x\r\ny\nz\r"], []),
    "line breaks of Unicode": ("a,b\nx\u2028y\x85z\x0c,1\n", {}, ["x\u2028y\x85z\x0c"], []),
    "a field of 10 MB": ("a,b\n" + "x" * 10_000_000 + ",1\ny,2\n", {}, ["x" * 10_000_000, "y"], []),
    "10 MB in quotes that stay open": ('a,b\n"' + "x" * 10_000_000 + "\ny,2\n", {}, ["y"], [(2, QUOTE)]),
    "a header alone": ("a,b\n", {}, [], []),
    "a header without a line end": ("a,b", {}, [], []),
    "no line end at the end": ("a,b\nx,1", {}, ["x"], []),
    "spaces around": ("a,b\n x ,1\n", {}, [" x "], []),
    "a missing value in both": ("a,b\n,\n", {}, [None], []),
}


@pytest.mark.parametrize("name", SHAPES)
def test_csv_record_is_read_exactly_or_reported(write: Write, name: str) -> None:
    content, fields, values, malformed = SHAPES[name]
    path = write("a.csv", content)
    found = read_csv(path, {"a": "string"}, **fields)
    assert found == (values, [(line, reason, None) for line, reason in malformed])


VALUES: dict[str, tuple[list[str], list[str]]] = {
    # Each type has texts that fit, with their values, and texts that do not fit.
    "int": (
        ["5=5", " 5=5", "+5=5", "-0=0", "007=7", "2147483647=2147483647"],
        ["2147483648", "5.0", "1e3", "0x1F", "1_000", "1 000", "--1", "1,5", "\uff11", "NaN", "true"],
    ),
    "bigint": (["-9223372036854775808=-9223372036854775808"], ["9223372036854775808", "1" * 5000, "0X1f"]),
    "double": (
        ["1e5=100000.0", ".5=0.5", "5.=5.0", " -1.5E-3 =-0.0015", "+1=1.0", "4.9e-324=5e-324"],
        ["1e999", "-1e999", "Infinity", "inf", "NaN", "nan", "1d", "1f", "0x1p3", "1_0", "1,5", "1.2.3", "e5", "."],
    ),
    "float": (["0.5=0.5"], ["1e39", "inf"]),
    "boolean": (["TRUE=True", "t=True", "yes=True", "0=False", "N=False"], ["2", "ja", "on", "truee"]),
    "decimal(6,2)": (
        ["12.30=12.30", "1e2=100.00", " 1=1.00", "-9999.99=-9999.99"],
        ["12.345", "10000", "1e999999999", "NaN", "1,5", "0x1"],
    ),
    "date": (
        ["2013-02-28=2013-02-28", "2013-1-5=2013-01-05", "0001-01-01=0001-01-01"],
        ["2013-02-30", "2013-13-01", "0000-00-00", "2013", "201301", "20130105", "2013-01-05T10:00", "2013-01-05 x"],
    ),
    "timestamp": (
        [
            "2013-01-05=2013-01-05 00:00:00+00:00",
            "2013-1-5 5:15=2013-01-05 05:15:00+00:00",
            "2013-01-05T10:00:00+02:00=2013-01-05 08:00:00+00:00",
            "2013-01-05 10:00:00.123456789=2013-01-05 10:00:00.123456+00:00",
        ],
        [
            "2013-02-30 10:00:00",
            "2013-01-05 24:00:00",
            "12:30",
            "2013",
            "201301",
            "2013-01-05 10:61",
            "now",
            "2013-W01",
        ],
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_text_fits_its_type_exactly_or_is_reported(write: Write, kind: str) -> None:
    good, bad = VALUES[kind]
    texts = [*(text.partition("=")[0] for text in good), *bad]
    path = write("a.csv", "a|b\n" + "".join(f"{text}|x\n" for text in texts))
    values, malformed = read_csv(path, {"a": kind}, separator="|")
    assert [str(value) for value in values] == [text.partition("=")[2] for text in good]
    assert malformed == [(2 + len(good) + number, f"not {kind}", "a") for number in range(len(bad))]


@pytest.mark.parametrize("cut", [10, 200])
def test_truncated_compressed_file_is_reported(write: Write, cut: int) -> None:
    text = "a,b\n" + "".join(f"{number * 7919 % 1000},{number}\n" for number in range(1000))
    path = write("a.csv.gz", gzip.compress(text.encode())[:-cut])
    with pytest.raises(DataError) as caught:
        read_csv(path, {"a": "int"})
    assert str(caught.value).startswith(f"{path}: cannot be read (")


def test_files_with_their_columns_in_another_order_are_read_by_name(write: Write) -> None:
    paths = (write("a.csv", "a,b\nx,1\n"), write("b.csv", ",b,c,c,a\n0,2,3,4,y\n0,2\n"))
    source = CsvSource(path=str(paths[0].parent), format="csv", columns={"a": "string"})
    headers = read_headers("rows", source, SourceFiles("rows", paths))
    reader = CsvReader(source, headers.first, {"a": "string"}, headers.others)
    assert [_all(reader, path) for path in paths] == [(["x"], []), (["y"], [(3, FIELDS, None)])]


def test_line_of_a_row_is_found(write: Write) -> None:
    path = write("rows.csv", 'a,b\n1,"x\ny"\n\n2,z\n')
    source = CsvSource(path=str(path), multiline=True)
    reader = CsvReader(source, ("a", "b"), {})
    assert [reader.find_line(ByteRange(path), row) for row in range(3)] == [2, 5, None]
