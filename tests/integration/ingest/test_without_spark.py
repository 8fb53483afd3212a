"""Preparation in this process, compared with that of Spark: the same bytes."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from farandole.errors import DataError
from farandole.events import Event, Progress
from farandole.ingest.prepare import prepare
from farandole.spec import Job, parse_job

_ROWS = 600
_TYPES = {"flag": "boolean", "count": "int", "big": "bigint", "short": "float", "long": "double"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a file with all types, missing values, negative zeros, quotes and other scripts."""
    random = np.random.default_rng(3)
    start = datetime.datetime(2020, 2, 28, 23)
    lines = ["flag,count,big,short,long,text,day,moment,group,part,label"]
    for row in range(_ROWS):
        moment = start + datetime.timedelta(hours=7 * row)
        cells = [
            "true" if row % 3 else "false",
            str(random.integers(-(2**31), 2**31)),
            str(random.integers(-(2**63), 2**63)),
            ["-0.0", "0.5", "1e20"][row % 3],
            ["-0", "0", "2.25", "-1e-300"][row % 4],
            ['"a ""b"", c"', "naïve", "日本語", "x" * (row % 70)][row % 4],
            f"{moment:%Y-%m-%d}",
            f"{moment:%Y-%m-%dT%H:%M:%S}.25Z",
            str(row % 40),
            ["train", "train", "validation", "test"][row % 4],
            str(row % 2),
        ]
        for index in range(9):
            if random.random() < 0.1:
                cells[index] = ""
        lines.append(",".join(cells))
    lines += lines[1:20]  # equal rows
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def _job(folder: Path, output: str, **data: Any) -> Job:
    features = {
        **{name: {"kind": "numeric", "indicator": True} for name in ("count", "long")},
        "clipped": {"kind": "numeric", "column": "big", "clip": {"by": "quantile", "upper": 0.9}},
        "flag": {"kind": "categorical"},
        "text": {"kind": "categorical", "min_count": 2},
        "season": {"kind": "time", "column": "moment", "parts": ["month", "hour"]},
        "when": {"kind": "time", "column": "day", "parts": ["weekday"]},
    }
    raw = {
        "name": "rows",
        "data": {
            "sources": {"rows": {"path": str(folder / "rows.csv")}},
            "features": features,
            "label": {"column": "label", "kind": "binary"},
            "shards": {"size_mib": 0.02, "block_mib": 0.005},
            "output": str(folder / output),
            **data,
        },
    }
    return parse_job(raw, folder=folder)


_COLUMNS = {**_TYPES, "text": "string", "day": "date", "moment": "timestamp", "label": "int"}
_CASES: dict[str, dict[str, Any]] = {
    "declared": {"columns": _COLUMNS},
    "guessed": {},
    "groups": {"columns": {**_COLUMNS, "group": "int"}, "split": {"by": ["group"], "seed": 3}},
    "split column": {"columns": {**_COLUMNS, "part": "string"}, "split": {"column": "part"}},
}


@pytest.mark.parametrize("case", _CASES)
def test_bytes_are_those_of_spark(
    case: str, folder: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = dict(_CASES[case])
    columns = changes.pop("columns", None)
    source = {"path": str(folder / "rows.csv")} | ({"columns": columns} if columns else {})
    with_spark = prepare(_job(folder, "with", sources={"rows": source}, **changes))
    steps: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Progress):
            steps.append(event.text)

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    without = prepare(_job(folder, "without", sources={"rows": source}, **changes), on_event)
    assert "starting Spark" not in steps
    assert without.manifest.digest == with_spark.manifest.digest
    assert without.manifest.statistics == with_spark.manifest.statistics
    assert without.manifest.privacy == with_spark.manifest.privacy
    assert without.manifest.row_counts == with_spark.manifest.row_counts
    for shard in (shard for shards in without.manifest.splits.values() for shard in shards):
        assert (folder / "without" / shard.file).read_bytes() == (folder / "with" / shard.file).read_bytes()


def test_failure_is_explained_as_by_spark(folder: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "rows.csv"
    path.write_text(path.read_text(encoding="utf-8") + "true,1,2\n", encoding="utf-8")
    with pytest.raises(DataError) as expected:
        prepare(_job(folder, "with"))
    calls = iter([None])  # only `prepare` asks before it tries
    real = SparkSession.getActiveSession
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: next(calls, real()))
    with pytest.raises(DataError) as found:
        prepare(_job(folder, "without"))
    assert str(found.value) == str(expected.value)
