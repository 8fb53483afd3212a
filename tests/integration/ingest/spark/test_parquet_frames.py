from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from farandole.errors import DataError
from farandole.ingest.sources.files import find_files
from farandole.ingest.spark.dataframes import source_frame
from farandole.ingest.spark.row_frames import SourceReaders
from farandole.ingest.spark.session import QUERY_SETTINGS
from farandole.spec import ParquetSource
from tests.support.ingest_inputs import MakeJob, Prepare, Refuse

FILE_NAMES = (
    "2013-01-01T00:00:00.parquet", "a:b.parquet", "a b.parquet", "p%41q.parquet", "p+q.parquet", "[b].parquet",
    "{c,d}.parquet", "s*r.parquet", "q?.parquet", "back\\slash.parquet", "größe €.parquet", "日本.parquet",
    "a,b.parquet", "new\nline.parquet", "a#b.parquet", "'q\".parquet", "a=b.parquet", "-.parquet",
)  # fmt: skip


@pytest.fixture
def session(spark: SparkSession) -> SparkSession:
    session = spark.newSession()
    for key, value in QUERY_SETTINGS.items():
        session.conf.set(key, value)
    return session


def frame_of(session: SparkSession, path: Path, **fields: Any) -> tuple[DataFrame, SourceReaders]:
    source = ParquetSource(path=str(path), **fields)
    readers = SourceReaders(session, {"rows": source}, {"rows": find_files("rows", source).fetch()})
    return source_frame(session, "rows", source, readers), readers


def test_files_of_any_name_are_read_once(session: SparkSession, tmp_path: Path) -> None:
    for number, name in enumerate(FILE_NAMES):
        pq.write_table(pa.table({"k": [number], "s": ["x"]}), tmp_path / name)
    frame, _ = frame_of(session, tmp_path)
    assert sorted(row["k"] for row in frame.collect()) == list(range(len(FILE_NAMES)))


def test_one_file_may_have_a_colon_and_brackets_and_several_are_refused(session: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a:[b].parquet"
    pq.write_table(pa.table({"k": [1]}), path)
    assert frame_of(session, path)[0].collect() == [(1,)]
    pq.write_table(pa.table({"k": [2]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"because its path has a colon and one of .*; rename the file or its folder"):
        frame_of(session, tmp_path)


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_nanoseconds_are_rounded_to_microseconds(session: SparkSession, tmp_path: Path, zone: str | None) -> None:
    nanoseconds = [0, 499, 500, 1499, 1500, -1, -500, -501, -1500, 2**63 - 1, -(2**63) + 1, None]
    wanted = [0, 0, 1, 1, 2, 0, 0, -1, -1, 9223372036854776, -9223372036854776, None]
    path = tmp_path / "a.parquet"
    times = pa.array(nanoseconds, pa.timestamp("ns", zone))
    pq.write_table(pa.table({"k": range(len(nanoseconds)), "a.t": times}), path)
    frame, readers = frame_of(session, path)
    assert dict(frame.dtypes) == {"k": "bigint", "a.t": "timestamp" if zone else "timestamp_ntz"}
    found = frame.orderBy("k").toArrow().column("a.t").combine_chunks()
    assert found.cast(pa.timestamp("us")).cast(pa.int64()).to_pylist() == wanted
    assert readers.rounded == {"a.t": str(path)}


def test_columns_of_types_that_spark_cannot_read_are_left_out(session: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    noon = datetime.time(12)
    table = {
        "t": pa.array([noon], pa.time64("us")),
        "s": ["x"],
        "h": pa.array(np.ones(1, np.float16)),
        "d.e": pa.array([2**63], pa.uint64()),
        "n": pa.array([1500], pa.timestamp("ns")),
        "l": [[1, 2]],
        "u": pa.array([datetime.datetime(2013, 1, 1)], pa.timestamp("ms", "UTC")),
    }
    pq.write_table(pa.table(table), path)
    frame, readers = frame_of(session, path)
    assert dict(frame.dtypes) == {
        "s": "string",
        "d.e": "decimal(20,0)",
        "n": "timestamp_ntz",
        "l": "array<bigint>",
        "u": "timestamp",
    }
    assert [*readers.unreadable] == ["t", "h"]
    assert frame.collect()[0][:2] == ("x", 2**63)
    assert frame_of(session, path, columns=("s",))[0].collect() == [("x",)]


def test_column_that_spark_cannot_read_is_refused_where_it_is_used(
    tmp_path: Path, make_job: MakeJob, prepare: Prepare, refuse: Refuse
) -> None:
    path = tmp_path / "a.parquet"
    numbers = np.arange(60)
    table = {"size": numbers * 0.5, "color": ["a"] * 60, "bought": numbers % 2}
    pq.write_table(pa.table({**table, "at": pa.array([datetime.time(12)] * 60)}), path)
    source = {"path": str(path), "columns": ...}
    reason = f"{path}: column at holds times of day (TIME), which Spark cannot read; write them as text or as numbers"
    features = {"size": {"kind": "numeric"}, "at": {"kind": "categorical"}}
    message = str(refuse(make_job({"features": features}, rows=source)))
    assert message.startswith(f"data.features.at: {reason}")
    query = "SELECT size, color, bought, `at` FROM rows"
    assert str(refuse(make_job({"query": query}, rows=source))).startswith(f"data.query: {reason}")
    assert sum(prepare(make_job({"query": "SELECT * FROM rows"}, rows=source)).manifest.row_counts.values()) == 60


def test_outdated_checksums_are_ignored_with_a_note(session: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    session.range(100).coalesce(1).write.parquet(str(folder))
    (part,) = folder.glob("part-*.parquet")
    assert frame_of(session, folder)[1].notes == []
    pq.write_table(pa.table({"id": [7]}), part)
    frame, readers = frame_of(session, folder)
    assert frame.collect() == [(7,)]
    (note,) = readers.notes
    assert note.startswith(f"{part}: was rewritten since its checksums in .{part.name}.crc were written, so")


def test_damage_that_checksums_show_is_refused(
    session: SparkSession, tmp_path: Path, make_job: MakeJob, refuse: Refuse
) -> None:
    folder = tmp_path / "d"
    session.range(3000).selectExpr("id % 2 AS bought", "'a' AS color", "id * 0.5D AS size").coalesce(1).write.parquet(
        str(folder), compression="none"
    )
    (part,) = folder.glob("part-*.parquet")
    content = bytearray(part.read_bytes())
    content[5000] ^= 1
    part.write_bytes(content)
    message = str(refuse(make_job(rows={"path": "d", "format": "parquet", "columns": ...})))
    assert message.startswith(f"{part}: differs from its checksums in {folder}/.{part.name}.crc at byte ")
    assert message.endswith("write the file again, or remove the .crc file if the file is whole")
