"""Rows of Parquet files: in bounded memory, with few open files, and without what the preparation cannot read."""

from __future__ import annotations

import datetime
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.errors import DataError
from farandole.guessing.resolve import resolve_guesses
from farandole.guessing.sampling import parquet_sample
from farandole.guessing.sampling.parquet_sample import sample_parquet
from farandole.ingest.sources.files import find_files
from farandole.spec import ParquetSource, parse_job
from tests.support.guesses import guess_file, left_out_of


@pytest.fixture
def few_open_files() -> Iterator[None]:
    """Allow this process few more open files than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _table(rows: int) -> pa.Table:
    return pa.table({"x": np.arange(rows) / 3, "y": ["a", "b"] * (rows // 2)})


def test_many_files_are_not_open_at_once(tmp_path: Path, few_open_files: None) -> None:
    for number in range(60):
        pq.write_table(_table(4), tmp_path / f"{number}.parquet")
    assert guess_file(tmp_path, "y").rows == 240


def test_one_large_row_group_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(_table(20_000), path, row_group_size=20_000, compression="none", use_dictionary=False)
    monkeypatch.setattr(parquet_sample, "MAX_BYTES", 40_000)
    monkeypatch.setattr(parquet_sample, "_BATCH_BYTES", 4_000)
    source = ParquetSource(path=str(path))
    sample = sample_parquet(source, find_files("data", source))
    assert 0 < sample.columns[0].rows < 5_000
    assert sample.rows == 20_000
    assert not sample.is_whole


def test_memory_limits_rows_that_grow_when_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["long text " * 100] * 20_000, "y": ["a", "b"] * 10_000}), path)
    monkeypatch.setattr(parquet_sample, "MAX_ROW_BYTES", 1_000_000)
    monkeypatch.setattr(parquet_sample, "_MAX_BATCH_ROWS", 100)
    source = ParquetSource(path=str(path))
    sample = sample_parquet(source, find_files("data", source))
    assert sample.columns[0].rows < 2_000
    assert not sample.is_whole


def test_small_files_are_read_whole(tmp_path: Path) -> None:
    pq.write_table(_table(1_000), tmp_path / "t.parquet", row_group_size=100)
    found = guess_file(tmp_path / "t.parquet", "y")
    assert found.is_whole
    assert found.rows == 1_000


def test_damage_behind_the_footer_is_an_error_about_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(_table(2_000), path)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t.parquet: cannot be read \(.*\); write the file again"):
        guess_file(path, "y")


def test_columns_that_the_preparation_cannot_read_are_left_out_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {
        "clock": pa.array([datetime.time(10, 30)] * 60),
        "half": pa.array(np.arange(60, dtype=np.float16)),
        "x": np.arange(60) / 7,
        "y": ["a", "b"] * 30,
    }
    pq.write_table(pa.table(columns), path)
    expected = {
        "clock": "holds times of day (TIME), which Spark cannot read; write them as text or as numbers of seconds",
        "half": "holds 16-bit numbers (FLOAT16), which Spark cannot read; write them as float32",
    }
    assert left_out_of(guess_file(path, "y")) == expected
    raw = {"name": "t", "data": {"sources": {"t": {"path": str(path)}}, "features": "auto", "label": "y"}}
    left_out = resolve_guesses(parse_job(raw)).left_out
    assert {entry.column: entry.reason for entry in left_out} == expected


def test_only_columns_that_cannot_be_read_are_named_as_the_cause(tmp_path: Path) -> None:
    columns = {"half": pa.array(np.arange(60, dtype=np.float16)), "y": ["a", "b"] * 30}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"no column is left to predict y from \(half: holds 16-bit numbers"):
        guess_file(tmp_path / "t.parquet", "y")
