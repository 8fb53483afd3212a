"""Columns in the names of directories: text, percent-decoded, typed over all directories together."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.ingest.readers.directory_columns import directory_texts, find_directory_columns
from farandole.ingest.sources.files import SourceFiles
from farandole.preprocess.values import as_text
from farandole.spec import CsvSource, ParquetSource

BASE = Path("/data/a=b")


def files_in(*folders: str) -> SourceFiles:
    return SourceFiles("rows", tuple(BASE / folder / "part.csv" for folder in folders), BASE)


def types_of(*folders: str, wanted: dict[str, str] | None = None, **fields: Any) -> dict[str, str]:
    source = CsvSource(path=str(BASE), **fields)
    return dict(find_directory_columns("rows", source, files_in(*folders), wanted or {}).types)


@pytest.mark.parametrize(
    ("folder", "texts"),
    [
        ("year=2013/month=01", {"year": "2013", "month": "01"}),
        ("plain/year=2013/other", {"year": "2013"}),
        ("k=a=b", {"k": "a=b"}),
        ("k=", {"k": None}),
        ("k=__HIVE_DEFAULT_PARTITION__", {"k": None}),
        ("=x", {}),
        ("Gr%C3%B6%C3%9Fe=Z%C3%BCrich%2F", {"Größe": "Zürich/"}),
        ("k=100%", {"k": "100%"}),
        ("k=a+b", {"k": "a+b"}),
        ("_k=1", {"_k": "1"}),
    ],
)
def test_names_and_values_are_percent_decoded(folder: str, texts: dict[str, str | None]) -> None:
    assert directory_texts(BASE, BASE / folder / "x=y.csv") == texts


def test_no_base_and_files_elsewhere_have_no_columns() -> None:
    assert directory_texts(None, BASE / "k=1" / "a.csv") == {}
    assert directory_texts(BASE, Path("/cache/k=1/a.csv")) == {}


def test_types_are_guessed_over_all_directories_together() -> None:
    assert types_of("k=1", "k=2") == {"k": "bigint"}
    assert types_of("k=1", "k=02") == {"k": "string"}
    assert types_of("k=1D", "k=2") == {"k": "string"}
    assert types_of("k=1.10", "k=2", wanted={"k": "double"}) == {"k": "double"}
    assert types_of("day=2013-01-05") == {"day": "date"}
    assert types_of("k=1", columns={"x": "int"}) == {}
    assert types_of("k=1", columns={"x": "int", "k": "string"}) == {"k": "string"}


def test_parquet_reads_the_directory_columns_that_it_names() -> None:
    for columns, types in ((None, {"k": "bigint", "m": "bigint"}), (("x", "m"), {"m": "bigint"})):
        source = ParquetSource(path=str(BASE), columns=columns)
        assert find_directory_columns("rows", source, files_in("k=1/m=2"), {}).types == types


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("k=1", "m=1"), r"path: /data/a=b/m=1/part.csv is in directories m=…, .* in directories k=…; all files"),
        (("k=1", ""), r"part.csv is in no directory that names a column, .* in directories k=…"),
        (("k=1/k=2",), "two of its directories name the column k; rename one of them"),
        (("k=%FF",), r"k=%FF/part.csv: the name of a directory is not UTF-8 in percent-encoding; rename it"),
        (("k=\udcff",), "the name of a directory is not UTF-8"),
    ],
)
def test_directories_that_do_not_fit_together_are_refused(folders: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        types_of(*folders)
    assert str(caught.value).isprintable()


def test_value_that_does_not_fit_its_declared_type_is_reported_with_its_directory() -> None:
    source = CsvSource(path=str(BASE), columns={"x": "int", "k": "int"})
    directories = find_directory_columns("rows", source, files_in("k=1D"), {})
    with pytest.raises(DataError, match=r"^/data/a=b/k=1D: column k of the directories: '1D' is not int; rename"):
        directories.values(BASE / "k=1D" / "part.csv")


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0%"), min_size=1, max_size=8).filter(
    lambda text: text not in (".", "..")
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(values=st.lists(NAMES | st.integers(0, 2**65).map(str), min_size=1, max_size=4), escaped=st.booleans())
def test_every_value_of_a_directory_is_given_back_exactly(values: list[str], escaped: bool) -> None:
    folders = ["k=" + (quote(value, safe="") if escaped else value) for value in values]
    files = files_in(*folders)
    directories = find_directory_columns("rows", CsvSource(path=str(BASE)), files, {})
    found = [as_text("k", directories.values(path)["k"])[0].as_py() for path in files.paths]
    assert len(set(found)) == len(set(values))
    if directories.types["k"] in ("string", "bigint", "date"):
        assert found == values
