"""Preparation from and to a real object store, also through a proxy that breaks responses."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.errors import DataError, StorageAccessError, StorageError
from farandole.events import Event, Progress
from farandole.ingest.sources.files import ensure_local, find_files
from farandole.planning import plan
from farandole.shards import read_manifest, verify
from farandole.spec import CsvSource, ParquetSource
from farandole.storage import object_store
from tests.support.ingest_inputs import HEADER, SMALL, MakeJob, Prepare, Write
from tests.support.object_store import FaultyProxy, Folder

CSV = (HEADER + SMALL).encode()


def found(uri: str) -> list[str]:
    files = find_files("rows", CsvSource(path=uri))
    assert files.remote is not None
    return [entry.path.rpartition("/")[2] for entry in files.fingerprint]


def test_dataset_in_the_store_equals_the_local_one(
    s3: Folder, write: Write, make_job: MakeJob, prepare: Prepare
) -> None:
    write()
    local = prepare(make_job())
    there = prepare(make_job({"output": f"{s3.uri}/dataset"}))
    assert there.to_dict() == {**local.to_dict(), "path": f"{s3.uri}/dataset"}
    assert there.manifest.splits == local.manifest.splits
    assert read_manifest(f"{s3.uri}/dataset") == there.manifest
    assert verify(f"{s3.uri}/dataset") == []
    assert isinstance(local.path, Path)
    for shards in local.manifest.splits.values():
        for shard in shards:
            assert s3.get(f"dataset/{shard.file}") == (local.path / shard.file).read_bytes()

    again = prepare(make_job({"output": f"{s3.uri}/dataset"}))
    assert again.reused
    assert plan(make_job({"output": f"{s3.uri}/dataset"})).steps[0].to_dict()["action"] == "reuse"
    s3.files.delete_file(f"{s3.path}/dataset/{local.manifest.splits['test'][0].file}")
    assert plan(make_job({"output": f"{s3.uri}/dataset"})).steps[0].to_dict()["action"] == "prepare"
    assert not prepare(make_job({"output": f"{s3.uri}/dataset"})).reused
    assert verify(f"{s3.uri}/dataset") == []


def test_sources_in_the_store_give_the_same_rows_as_local_ones(
    s3: Folder, write: Write, make_job: MakeJob, prepare: Prepare
) -> None:
    write()
    local = prepare(make_job())
    uri = s3.put("raw/small.csv", CSV)
    job = make_job({"output": "other"}, rows={"path": uri})
    assert plan(job).problems == ()
    events: list[Event] = []
    there = prepare(job, events.append)
    assert there.manifest.digest == local.manifest.digest
    (entry,) = there.manifest.sources
    assert (entry["path"], entry["bytes"]) == (uri, len(CSV))
    assert "fetching 1 file of rows" in [event.text for event in events if isinstance(event, Progress)]
    assert prepare(job).reused
    s3.put("raw/small.csv", CSV + b"60,1.5,a,1\n")
    assert plan(job).steps[0].to_dict()["action"] == "prepare"
    assert sum(prepare(job).manifest.row_counts.values()) == 61


def test_preparation_survives_a_few_faults_of_the_store(
    proxy: FaultyProxy, s3: Folder, write: Write, make_job: MakeJob, prepare: Prepare
) -> None:
    write()
    local = prepare(make_job())
    uri = s3.put("raw/small.csv", CSV)
    for kind, method in (("500", "PUT"), ("refuse", "GET"), ("cut", "GET"), ("503", "HEAD"), ("short", "GET")):
        proxy.inject(kind, 1, method=method)
    there = prepare(make_job({"output": f"{s3.uri}/dataset"}, rows={"path": uri}))
    assert there.manifest.digest == local.manifest.digest
    assert verify(f"{s3.uri}/dataset") == []
    assert proxy.broken == 5


def test_preparation_that_cannot_write_leaves_no_dataset(
    proxy: FaultyProxy, s3: Folder, write: Write, make_job: MakeJob, prepare: Prepare
) -> None:
    write()
    proxy.inject("500", method="PUT", path="/train/")
    with pytest.raises(StorageError, match=rf"{s3.uri}/dataset/train/.*\.arrow: could not be written in 5 tries"):
        prepare(make_job({"output": f"{s3.uri}/dataset"}))
    assert "dataset/manifest.json" not in s3.names()


def test_encrypted_shards_in_the_store_equal_the_local_ones(
    s3: Folder, write: Write, make_job: MakeJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    monkeypatch.setenv("SHARD_KEY", "5f" * 32)
    shards = {"encryption": {"key": {"environment": "SHARD_KEY"}}}
    local = prepare(make_job({"shards": shards}))
    there = prepare(make_job({"shards": shards, "output": f"{s3.uri}/sealed"}))
    assert there.manifest.splits == local.manifest.splits
    assert there.manifest.encryption == local.manifest.encryption
    assert verify(f"{s3.uri}/sealed") == []
    shard = local.manifest.splits["train"][0].file
    content = bytearray(s3.get(f"sealed/{shard}"))
    content[len(content) // 2] ^= 1
    s3.put(f"sealed/{shard}", bytes(content))
    assert [problem.shard for problem in verify(f"{s3.uri}/sealed")] == [shard]


def test_a_quarantine_in_the_store_is_written_and_verified(
    s3: Folder, write: Write, make_job: MakeJob, prepare: Prepare
) -> None:
    write("small.csv", HEADER + SMALL + "x,1.5,a,1\n")
    job = make_job({"output": f"{s3.uri}/kept"}, rows={"malformed": "quarantine"})
    (kept,) = prepare(job).manifest.quarantine
    content = s3.get(f"kept/{kept.file}")
    assert pq.read_table(pa.BufferReader(content))["record"].to_pylist() == [b"x,1.5,a,1"]
    assert verify(f"{s3.uri}/kept") == []
    s3.put(f"kept/{kept.file}", content[:-1] + b"?")
    assert [(problem.shard, problem.text) for problem in verify(f"{s3.uri}/kept")] == [
        (kept.file, "does not match its checksum")
    ]
    s3.files.delete_file(f"{s3.path}/kept/{kept.file}")
    (problem,) = verify(f"{s3.uri}/kept")
    assert problem.text.startswith("cannot be read")


@pytest.mark.parametrize("where", ["output", "source"])
def test_denied_access_is_reported_before_spark_starts(
    s3: Folder, write: Write, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from farandole.ingest.prepare import prepare  # without the fixture, which starts Spark

    write()
    uri = s3.put("raw/small.csv", CSV)
    if where == "output":
        missing = make_job({"output": "s3://no-such-bucket/dataset"})
        job = make_job({"output": f"{s3.uri}/dataset"})
    else:
        missing = make_job({}, rows={"path": "s3://no-such-bucket/small.csv"})
        job = make_job({}, rows={"path": uri})
    with pytest.raises(StorageAccessError, match="there is no bucket no-such-bucket; create it, or fix the URI"):
        prepare(missing)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    with pytest.raises(StorageAccessError, match=r"the store refuses: .*; check AWS_ACCESS_KEY_ID") as caught:
        prepare(job)
    assert "wrong-and-secret" not in str(caught.value)
    (problem,) = plan(job).problems
    assert "the store refuses" in problem


# Which files ------------------------------------------------------------------------------------------------


def test_folders_and_patterns_mean_the_same_files_as_local_ones(s3: Folder) -> None:
    for name in ("d/b.csv", "d/a.csv", "d/sub/c.csv", "d/_SUCCESS", "d/.a.csv.crc", "d/_temporary/x.csv", "e/a-1.csv"):
        s3.put(name, CSV)
    assert found(f"{s3.uri}/d") == ["a.csv", "b.csv", "c.csv"]
    assert found(f"{s3.uri}/d/") == ["a.csv", "b.csv", "c.csv"]
    assert found(f"{s3.uri}/*/a*.csv") == ["a.csv", "a-1.csv"]
    assert found(f"{s3.uri}/**/[bc].csv") == ["b.csv", "c.csv"]
    assert found(f"{s3.uri}/d/*.csv") == ["a.csv", "b.csv"]


def test_missing_remote_files_are_reported_like_local_ones(s3: Folder) -> None:
    s3.put("d/flights.csv", CSV)
    s3.put("e/_SUCCESS", b"")
    for uri, text in {
        "d/flihgts.csv": f"there is no such file or directory; did you mean {s3.uri}/d/flights.csv\\?",
        "none/a.csv": "there is no such file or directory; fix the path",
        "d/*.tsv": "no file matches; fix the pattern",
        "e": "the directory holds no data files; put csv files into it",
    }.items():
        with pytest.raises(DataError, match=f"data.sources.rows.path: .*: {text}"):
            find_files("rows", CsvSource(path=f"{s3.uri}/{uri}"))
    with pytest.raises(DataError, match=r"data\.sources\.rows\.path: .*: Spark skips files whose names start with"):
        find_files("rows", ParquetSource(path=f"{s3.uri}/e/_SUCCESS"))
    assert find_files("rows", CsvSource(path=f"{s3.uri}/e/_SUCCESS")).remote is not None


def test_objects_of_any_name_have_copies_of_their_own(s3: Folder, farandole_home: Path) -> None:
    names = ["a#1.csv", "a#2.csv", "a?1.csv", "p%41.csv", "pA.csv", "10:30.csv", "a b+c.csv", "[é].csv"]
    for number, name in enumerate(names):
        s3.put(f"odd/{name}", str(number).encode())
    files = find_files("rows", CsvSource(path=f"{s3.uri}/odd")).fetch()
    assert {path.name: path.read_text() for path in files.paths} == {
        name: str(number) for number, name in enumerate(names)
    }


def test_file_is_downloaded_once_for_each_change(proxy: FaultyProxy, s3: Folder, farandole_home: Path) -> None:
    s3.put("d/a.csv", CSV)
    s3.put("d/b.csv", CSV)
    assert found(f"{s3.uri}/d") == ["a.csv", "b.csv"]
    assert not farandole_home.exists()
    for _ in range(2):
        files = find_files("rows", CsvSource(path=f"{s3.uri}/d")).fetch()
    assert [path.read_bytes() for path in files.paths] == [CSV, CSV]
    s3.put("d/b.csv", CSV + b"60,1,a,1\n")
    files = find_files("rows", CsvSource(path=f"{s3.uri}/d")).fetch()
    assert files.paths[1].read_bytes() == CSV + b"60,1,a,1\n"
    assert (proxy.count("GET", "d/a.csv"), proxy.count("GET", "d/b.csv")) == (1, 2)


def test_folders_that_name_partitions_keep_their_meaning(
    s3: Folder, make_job: MakeJob, prepare: Prepare, tmp_path: Path
) -> None:
    for color in "ab":
        pq.write_table(pa.table({"size": np.arange(9.0), "bought": np.arange(9) % 2}), tmp_path / "rows.parquet")
        s3.put(f"raw/color={color}/rows.parquet", (tmp_path / "rows.parquet").read_bytes())
    source = {"path": f"{s3.uri}/raw", "format": "parquet", "columns": ...}
    manifest = prepare(make_job({"query": "SELECT * FROM rows"}, rows=source)).manifest
    assert sorted(manifest.preprocessing["transforms"][1]["vocabulary"]) == ["a", "b"]
    assert find_files("rows", ParquetSource(path=f"{s3.uri}/raw")).base is not None


def test_archive_in_the_store_is_unpacked_locally(s3: Folder, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
    uri = s3.put("a.csv.zip", (tmp_path / "a.csv.zip").read_bytes())
    files = find_files("rows", CsvSource(path=uri)).fetch()
    assert [path.read_bytes() for path in files.paths] == [CSV]
    assert [entry.path for entry in files.fingerprint] == [uri]


@pytest.mark.parametrize("kind", ["cut", "short", "500"])
def test_source_that_never_arrives_whole_is_never_read(
    proxy: FaultyProxy, s3: Folder, monkeypatch: pytest.MonkeyPatch, farandole_home: Path, kind: str
) -> None:
    monkeypatch.setattr(object_store, "TRIES", 2)
    uri = s3.put("a.csv", os.urandom(1000).hex().encode())
    proxy.inject(kind, method="GET", path="a.csv")
    with pytest.raises(StorageError, match=f"{uri}: could not be read in 2 tries"):
        find_files("rows", CsvSource(path=uri)).fetch()
    assert [path for path in (farandole_home / "cache").rglob("*") if path.is_file()] == []


def test_another_machine_downloads_only_the_file_that_it_reads(s3: Folder, farandole_home: Path) -> None:
    for name in "ab":
        s3.put(f"many/{name}.csv", CSV)
    source = CsvSource(path=f"{s3.uri}/many/*.csv")
    first, second = find_files("rows", source).fetch().paths
    shutil.rmtree(farandole_home)  # like on a machine that has never downloaded them
    ensure_local("rows", source, second)
    assert second.read_bytes() == CSV
    assert not first.exists()
