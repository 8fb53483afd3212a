"""Preparation in this process, compared with that of Spark: the same bytes."""

from __future__ import annotations

import csv
import datetime
import errno
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from farandole.errors import DataError, PreparationError
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
    lines += [
        "true,1,1,1.5,0.1,😀 é,0001-01-01,0001-01-01T00:00:00.000001Z,1,train,0",
        "true,1,1,3.4e38,0.3,\x01\x7f,9999-12-31,9999-12-31T23:59:59.999999Z,1,train,1",
        "true,1,1,1e-45,5e-324, \t ,1582-10-10,1969-12-31T23:59:59.999999Z,1,test,1",
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = list(csv.reader(lines))
    _write_in_another_notation(tmp_path / "other.txt", table)
    _write_files_of_different_columns(tmp_path / "parts", table)
    return tmp_path


def _write_in_another_notation(path: Path, table: list[list[str]]) -> None:
    with path.open("w", encoding="cp1252", errors="replace", newline="") as file:
        writer = csv.writer(file, delimiter=";", quotechar="'")
        for number, row in enumerate(table[1:]):
            *others, text, day, moment, group, part, label = row
            text = text.replace("日本語", "two\nlines; 'quoted' €")
            day = ".".join(reversed(day.split("-"))) or "NA"
            moment = moment[:19].replace("-", "/").replace("T", " ") or "-"
            writer.writerow([*others, text or ["", "NA"][number % 2], day, moment, group, part, label])


def _write_files_of_different_columns(folder: Path, table: list[list[str]]) -> None:
    folder.mkdir()
    header, half = table[0], len(table) // 2
    with gzip.open(folder / "a.csv.gz", "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table[:half])
    with (folder / "b.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*reversed(row), "more"] for row in [header, *table[half:]])


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
_IN_FILE_ORDER = {
    **dict(list(_COLUMNS.items())[:-1]),
    "group": "int",
    "part": "string",
    "label": "int",
}
_KEY = {"environment": "WITHOUT_SPARK_KEY"}
_CASES: dict[str, dict[str, Any]] = {
    "declared": {"source": {"columns": _COLUMNS}},
    "guessed": {},
    "groups": {"source": {"columns": {**_COLUMNS, "group": "int"}}, "split": {"by": ["group"], "seed": 3}},
    "split column": {"source": {"columns": {**_COLUMNS, "part": "string"}}, "split": {"column": "part"}},
    "time of a timestamp": {"split": {"time": "moment"}},
    "time of a date": {"split": {"time": "day", "train": 0.55, "validation": 0.15, "test": 0.3}},
    "time of few numbers": {"split": {"time": "group", "train": 0.7, "validation": 0.3, "test": 0.0}},
    "time of 64-bit numbers": {"source": {"columns": _COLUMNS}, "split": {"time": "big"}},
    "time of fractions": {
        "source": {"columns": _COLUMNS},
        "split": {"time": "short", "train": 0.2, "validation": 0.3, "test": 0.5},
    },
    "another notation": {
        "source": {
            "path": "other.txt",
            "format": "csv",
            "columns": _IN_FILE_ORDER,
            "header": False,
            "separator": ";",
            "quote": "'",
            "encoding": "cp1252",
            "null_values": ["NA", "-"],
            "multiline": True,
            "date_format": "dd.MM.yyyy",
            "timestamp_format": "yyyy/MM/dd HH:mm:ss",
        }
    },
    "files of different columns": {"source": {"path": "parts", "format": "csv", "columns": _COLUMNS}},
    "encrypted": {"shards": {"size_mib": 0.02, "block_mib": 0.005, "encryption": {"key": _KEY}}},
    "no detection": {"privacy": {"detect": False, "detect_share": 0.5}, "partitions": 3, "memory": "1g"},
    "padded texts": {"features": {"words": {"kind": "text", "column": "text", "length": 8}}},
    "packed texts": {
        "features": {"words": {"kind": "text", "column": "text", "length": 8, "mode": "pack"}},
        "label": None,
    },
    "buckets and a regression": {
        "features": {"part": {"kind": "categorical"}, "sizes": {"kind": "bucket", "column": "count", "quantiles": 4}},
        "label": {"column": "label", "kind": "regression"},
    },
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_KEY["environment"], "0f" * 32)


@pytest.mark.parametrize("case", _CASES)
def test_bytes_are_those_of_spark(
    case: str, folder: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = dict(_CASES[case])
    source = {"path": "rows.csv", **changes.pop("source", {})}
    changes["sources"] = {"rows": source}
    with_spark = prepare(_job(folder, "with", **changes))
    steps: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Progress):
            steps.append(event.text)

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    without = prepare(_job(folder, "without", **changes), on_event)
    assert "starting Spark" not in steps
    assert without.manifest.digest == with_spark.manifest.digest
    assert without.manifest.statistics == with_spark.manifest.statistics
    assert without.manifest.privacy == with_spark.manifest.privacy
    assert without.manifest.row_counts == with_spark.manifest.row_counts
    for shard in (shard for shards in without.manifest.splits.values() for shard in shards):
        assert (folder / "without" / shard.file).read_bytes() == (folder / "with" / shard.file).read_bytes()


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return the function after whose call Spark must not start."""

    def forbid() -> None:
        def start(*_: object, **__: object) -> None:
            raise AssertionError("Spark was started")

        monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
        monkeypatch.setattr("farandole.ingest.prepare.spark_session", start)

    return forbid


_MALFORMED = [
    "true,1,2",
    *["true,many,2,0,0,t,2020-01-01,2020-01-01T00:00:00Z,1,train,1"] * 3,
    *[f"true,1,big {row % 6},0,0,t,2020-01-01,2020-01-01T00:00:00Z,1,train,1" for row in range(9)],
    'true,1,2,0,0,a "quote,2020-01-01,2020-01-01T00:00:00Z,1,train,1',
    'true,1,2,0,0,"open,2020-01-01,2020-01-01T00:00:00Z,1,train,1',
]
_FAULTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "malformed rows": (_MALFORMED, {"source": {"columns": _COLUMNS}}),
    "no label": (["true,1,2,0,0,t,2020-01-01,2020-01-01T00:00:00Z,1,train,"], {"source": {"columns": _COLUMNS}}),
    "texts cannot order rows": ([], {"split": {"time": "text"}, "source": {"columns": _COLUMNS}}),
    "another split": (["true,1,2,0,0,t,2020-01-01,2020-01-01T00:00:00Z,1,else,1"], {"split": {"column": "part"}}),
    "a split without rows": ([], {"split": {"by": ["label"], "train": 0.999, "validation": 0.001, "test": 0.0}}),
    "personal data": (
        ["true,1,2,0,0,ada@example.org,2020-01-01,2020-01-01T00:00:00Z,1,train,1"] * 9,
        {"source": {"columns": _COLUMNS}},
    ),
}


@pytest.mark.parametrize("fault", _FAULTS)
def test_fault_is_explained_as_by_spark_without_starting_it(
    fault: str, folder: Path, spark: SparkSession, no_spark: Callable[[], None]
) -> None:
    lines, changes = _FAULTS[fault]
    path = folder / "rows.csv"
    path.write_text(path.read_text(encoding="utf-8") + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    source = {"path": "rows.csv", **changes.get("source", {})}
    changes = {**changes, "sources": {"rows": source}}
    changes.pop("source", None)
    with pytest.raises(DataError) as expected:
        prepare(_job(folder, "with", **changes))
    no_spark()
    with pytest.raises(DataError) as found:
        prepare(_job(folder, "without", **changes))
    assert str(found.value) == str(expected.value)
    assert not (folder / "without").exists()


def test_column_without_any_time_is_reported(folder: Path, no_spark: Callable[[], None]) -> None:
    (folder / "rows.csv").write_text("when,count,label\n,1,0\n,2,1\n", encoding="utf-8")
    no_spark()
    source = {"path": "rows.csv", "columns": {"when": "date", "count": "int", "label": "int"}}
    features = {"count": {"kind": "numeric"}}
    with pytest.raises(DataError, match=r"data\.split\.time: when: has no value in any row"):
        prepare(_job(folder, "without", sources={"rows": source}, features=features, split={"time": "when"}))


def test_directory_that_cannot_be_written_is_reported(
    folder: Path, no_spark: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_spark()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "without" / "train"))

    monkeypatch.setattr("farandole.ingest.without_spark.write_shards", refuse)
    with pytest.raises(PreparationError, match=r"data\.output: .*Permission denied; choose a directory"):
        prepare(_job(folder, "without"))


def test_fault_of_the_program_is_neither_explained_nor_left_to_spark(
    folder: Path, no_spark: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_spark()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("farandole.ingest.without_spark.plan_shards", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        prepare(_job(folder, "without"))


def test_first_rows_are_searched_for_personal_data(folder: Path, no_spark: Callable[[], None]) -> None:
    """A share of all rows that is allowed may be concentrated in the first ones."""
    rows = ["mail,count,label", *[f"ada{row}@example.org,{row},0" for row in range(10_000)]]
    rows += [f"none,{row},1" for row in range(10_100)]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    no_spark()
    features = {"count": {"kind": "numeric"}, "mail": {"kind": "categorical"}}
    with pytest.raises(DataError, match=r"searched: the first 10,000 rows"):
        prepare(_job(folder, "without", features=features, privacy={"detect_share": 0.5}))
