"""The decision whether a preparation needs Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.ingest.sources import small
from farandole.ingest.sources.files import find_files
from farandole.ingest.sources.small import needs_spark
from farandole.spec import CsvSource, Data, Privacy, Shards, Split, parse_job
from farandole.spec.base import Spec


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
        {"privacy": {"columns": {"y": {"policy": "allow"}}}},
        {"privacy": {"k_anonymity": {"columns": ["x"]}}},
        {"transform": "prepare_rows:clean"},
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
    monkeypatch.setattr(small, "_SMALL_BYTES", 3)
    assert _needs_spark(tmp_path / "b.csv")


@pytest.mark.parametrize(
    "data",
    [
        {"split": {"time": "y"}},
        {"split": {"by": ["y"], "seed": 3}},
        {"partitions": 3, "memory": "4g"},
        {"privacy": {"detect": False}},
        {"source": {"encoding": "latin-1", "separator": ";", "null_values": ["NA"]}},
    ],
)
def test_fields_that_this_process_follows_need_no_spark(table: Path, data: dict[str, Any]) -> None:
    assert not _needs_spark(table, **data)


@pytest.mark.parametrize("part", [Data, CsvSource, Privacy, Split, Shards])
def test_field_that_is_added_later_needs_spark(table: Path, part: type[Spec]) -> None:
    class Later(part):  # type: ignore[misc, valid-type]
        later: int = 0

    source = CsvSource(path=str(table))
    data = Data.model_validate({"sources": {"d": {"path": str(table)}}, "features": {"x": {"kind": "numeric"}}})
    parts = {CsvSource: source, Data: data, Privacy: data.privacy, Split: data.split, Shards: data.shards}

    def with_later(later: int) -> Data:
        changed = Later.model_construct(**dict(parts[part]), later=later)
        if part is Data:
            assert isinstance(changed, Data)
            return changed
        if part is CsvSource:
            return data.model_copy(update={"sources": {"d": changed}})
        return data.model_copy(update={part.__name__.lower(): changed})

    files = {"d": find_files("d", source)}
    assert not needs_spark(with_later(0), files)
    assert needs_spark(with_later(1), files)
