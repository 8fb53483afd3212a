"""The decision whether a preparation needs Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.ingest.sources import small
from farandole.ingest.sources.files import find_files
from farandole.ingest.sources.small import needs_spark
from farandole.spec import parse_job


def _needs_spark(path: Path, **data: Any) -> bool:
    raw = {"sources": {"d": {"path": str(path), **data.pop("source", {})}}, "features": {"x": "numeric"}, **data}
    job = parse_job({"name": "t", "data": raw})
    return needs_spark(job.data, {name: find_files(name, source) for name, source in job.data.sources.items()})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "d.csv"
    path.write_text("x,y\n1,2\n")
    return path


def test_small_csv_needs_no_spark(table: Path) -> None:
    assert not _needs_spark(table)


@pytest.mark.parametrize(
    "data",
    [
        {"query": "SELECT x FROM d"},
        {"expect": [{"kind": "rows", "min": 1}]},
        {"privacy": {"columns": {"y": {"policy": "drop"}}}},
        {"master": "local[1]"},
        {"source": {"malformed": "drop"}},
    ],
)
def test_what_needs_sql_or_a_cluster_needs_spark(table: Path, data: dict[str, Any]) -> None:
    assert _needs_spark(table, **data)


def test_large_files_and_directory_columns_need_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "d" / "year=2013"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("x\n1\n")
    assert _needs_spark(tmp_path / "d", source={"format": "csv"})
    (tmp_path / "b.csv").write_text("x\n1\n")
    monkeypatch.setattr(small, "_MAX_BYTES", 3)
    assert _needs_spark(tmp_path / "b.csv")
