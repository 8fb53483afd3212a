from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from farandole.spec import CsvSource, ParquetSource, Source

SOURCE: TypeAdapter[Any] = TypeAdapter(Source)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/d/a.csv", CsvSource),
        ("/d/a.tsv", CsvSource),
        ("/d/a.csv.gz", CsvSource),
        ("/d/a.csv.zip", CsvSource),
        ("/d/*.csv", CsvSource),
        ("/d/a.parquet", ParquetSource),
        ("/d/a.parquet/*", ParquetSource),
        ("/d/a.pq", ParquetSource),
        ("package://p/a.csv", CsvSource),
    ],
)
def test_path_suffix_determines_the_format(path: str, kind: type) -> None:
    assert type(SOURCE.validate_python({"path": path})) is kind


def test_declared_format_overrides_the_path() -> None:
    assert type(SOURCE.validate_python({"path": "/d/a.csv", "format": "parquet"})) is ParquetSource


@pytest.mark.parametrize("source", [{"path": "/d/a"}, {"path": "/d/a.xml"}, {}, {"format": "orc", "path": "/d/a"}])
def test_unknown_format_is_rejected(source: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="the file format is not known"):
        SOURCE.validate_python(source)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("int", "int"),
        ("INTEGER", "int"),
        ("long", "bigint"),
        ("Double", "double"),
        ("decimal(10, 2)", "decimal(10,2)"),
        ("timestamp", "timestamp"),
    ],
)
def test_column_types_are_normalized(written: str, meant: str) -> None:
    assert CsvSource(path="/a.csv", columns={"x": written}).columns == {"x": meant}


@pytest.mark.parametrize("written", ["varchar", "decimal", "decimal(10)", "array<int>", ""])
def test_unknown_column_type_is_rejected(written: str) -> None:
    with pytest.raises(ValidationError, match="not a column type; use one of boolean, int,"):
        CsvSource(path="/a.csv", columns={"x": written})


@pytest.mark.parametrize("field", ["separator", "quote"])
def test_separator_and_quote_are_one_character(field: str) -> None:
    for value in ("", ";;"):
        with pytest.raises(ValidationError, match=field):
            CsvSource.model_validate({"path": "/a.csv", field: value})


def test_text_options_are_rejected_for_parquet() -> None:
    with pytest.raises(ValidationError, match="null_values"):
        SOURCE.validate_python({"path": "/a.parquet", "null_values": ["NA"]})
