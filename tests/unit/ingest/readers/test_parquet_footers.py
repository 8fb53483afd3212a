from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.ingest.readers.parquet_footers import ParquetColumns, check_parquet
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import ParquetSource


def check(*paths: Path, columns: tuple[str, ...] | None = None) -> ParquetColumns:
    return check_parquet("rows", ParquetSource(path=str(paths[0]), columns=columns), SourceFiles("rows", paths))


def refused(*paths: Path, columns: tuple[str, ...] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        check(*paths, columns=columns)
    return str(caught.value)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("keep", [0, 3, 300], ids=["empty", "three bytes", "cut short"])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = parquet(tmp_path / "a.parquet", a=list(range(1000)))
    path.write_bytes(path.read_bytes()[:keep])
    message = refused(path)
    assert message.startswith(f"{path}: is not a whole Parquet file (")
    assert message.endswith("; write it again")


def test_a_parquet_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    first = parquet(tmp_path / "1.parquet", a=[1], b=[2])
    second = parquet(tmp_path / "2.parquet", a=[1])
    assert refused(first, second) == (
        f"{second}: the columns are a, those of 1.parquet are a, b; all files of a source need the same columns, or"
        " declare in `columns` of data.sources.rows those that you use"
    )


def test_parquet_files_may_have_their_columns_in_another_order(tmp_path: Path) -> None:
    first = parquet(tmp_path / "1.parquet", a=[1], b=[2])
    second = parquet(tmp_path / "2.parquet", b=[1], a=[2])
    assert [*check(first, second).first] == ["a", "b"]


def test_declared_columns_alone_are_compared(tmp_path: Path) -> None:
    first = parquet(tmp_path / "1.parquet", **{"a.b": [1], "c": [1]})
    second = parquet(tmp_path / "2.parquet", **{"a.b": [1], "c": ["x"], "d": [1]})
    assert check(first, second, columns=("a.b",)).names == {"a.b", "c", "d"}
    assert refused(first, second, columns=("c",)).startswith(f"{second}: column c is byte array String, in 1.parquet")
    assert refused(first, second, columns=("d",)) == (
        f"{first}: there is no column d, declared in data.sources.rows; it has a.b, c"
    )


def test_dotted_column_that_one_file_lacks_is_refused(tmp_path: Path) -> None:
    first = parquet(tmp_path / "1.parquet", **{"sepal.length": [1.0], "sepal.width": [1.0]})
    second = parquet(tmp_path / "2.parquet", **{"sepal.length": [1.0]})
    assert refused(first, second, columns=("sepal.length", "sepal.width")) == (
        f"{second}: there is no column sepal.width, declared in data.sources.rows; did you mean sepal.length?"
    )


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, unique=True))
def test_columns_of_any_name_are_found(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "names.parquet"
    struct = pa.array([{"x": 1, "y.z": [{"a": 1.0}]}])
    values = [struct if index % 2 else pa.array([1]) for index in range(len(names))]
    pq.write_table(pa.table(values, names=names), path)
    first = check(path).first
    assert [*first] == names
    types = {"int64", "x int64, y.z.list.element.a double"}
    assert {column.types for column in first.values()} <= types


NOON = datetime.time(12)
UNREADABLE: dict[str, tuple[pa.Array, str]] = {
    "time in ms": (pa.array([NOON], pa.time32("ms")), "times of day (TIME)"),
    "time in us": (pa.array([NOON], pa.time64("us")), "times of day (TIME)"),
    "time in ns": (pa.array([NOON], pa.time64("ns")), "times of day (TIME)"),
    "half": (pa.array(np.ones(1, np.float16)), "16-bit numbers (FLOAT16)"),
    "decimal": (pa.array([Decimal(1)], pa.decimal256(60, 2)), "decimals of 60 digits"),
    "times": (pa.array([[NOON]], pa.list_(pa.time64("us"))), "times of day (TIME)"),
    "nested nanoseconds": (pa.array([[1]], pa.list_(pa.timestamp("ns"))), "nanoseconds in lists or structs"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_columns_of_types_that_spark_cannot_read_are_refused_only_if_declared(tmp_path: Path, case: str) -> None:
    values, reason = UNREADABLE[case]
    path = parquet(tmp_path / "a.parquet", x=[1], u=values)
    found = check(path)
    assert found.unreadable.keys() == {"u"}
    assert found.unreadable["u"].startswith(f"{path}: column u holds {reason}")
    assert check(path, columns=("x",)).unreadable.keys() == {"u"}
    message = refused(path, columns=("u",))
    assert message.startswith(f"{path}: column u holds {reason}")
    assert message.endswith(", or remove it from `columns` of data.sources.rows")


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_nanoseconds_are_noticed(tmp_path: Path, zone: str | None) -> None:
    path = parquet(
        tmp_path / "a.parquet", t=pa.array([1], pa.timestamp("ns", zone)), u=pa.array([1], pa.timestamp("us"))
    )
    first = check(path).first
    assert (first["t"].nanoseconds, first["t"].in_utc, first["u"].nanoseconds) == (True, zone is not None, False)
