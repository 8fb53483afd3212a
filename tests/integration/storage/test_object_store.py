"""Directories of a real object store, and datasets in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farandole.errors import DatasetError, StorageAccessError, StorageError
from farandole.process.retry import Backoff
from farandole.shards import (
    Dataset,
    Manifest,
    Schema,
    ShardWriter,
    collect_garbage,
    mark_as_recent,
    read_manifest,
    verify,
    write_manifest,
)
from farandole.storage import Storage, object_store, open_storage
from tests.support.object_store import FaultyProxy, Folder
from tests.support.storage_contract import StorageContract

Columns = dict[str, np.ndarray]


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make endless faults end sooner."""
    monkeypatch.setattr(object_store, "TRIES", 2)
    monkeypatch.setattr(object_store, "BACKOFF", Backoff(0.01, 0.01))


class TestObjectStorage(StorageContract):
    @pytest.fixture
    def storage(self, s3: Folder) -> Storage:
        storage = open_storage(s3.uri)
        storage.create()
        return storage


# Datasets in an object store --------------------------------------------------------------------------------


@pytest.fixture
def written(s3: Folder, schema: Schema, rows: Callable[..., Columns], describe: Callable[..., Manifest]) -> Manifest:
    """Provide a dataset of two shards of 7 and 5 rows, in the bucket."""
    shards = []
    for index, (count, start) in enumerate([(7, 0), (5, 7)]):
        writer = ShardWriter(s3.uri, "train", index, schema, block_rows=3)
        writer.write(rows(count, start))
        shards.append(writer.close())
    manifest = describe(train=tuple(shards), validation=())
    write_manifest(s3.uri, manifest)
    return manifest


def test_dataset_is_written_verified_and_read(s3: Folder, written: Manifest, rows: Callable[..., Columns]) -> None:
    assert s3.names() == ["manifest.json", *(shard.file for shard in written.splits["train"])]
    assert read_manifest(s3.uri) == written
    assert verify(s3.uri) == []
    reader = Dataset(s3.uri).split("train")
    blocks = [reader.block(number) for number in range(5)]
    for name, values in rows(12).items():
        np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks]), values)


def test_shard_has_the_same_bytes_in_both_storages(
    s3: Folder, written: Manifest, tmp_path: Path, schema: Schema, rows: Callable[..., Columns]
) -> None:
    writer = ShardWriter(tmp_path, "train", 0, schema, block_rows=3)
    writer.write(rows(7))
    assert writer.close() == written.splits["train"][0]
    assert s3.get(written.splits["train"][0].file) == (tmp_path / written.splits["train"][0].file).read_bytes()


def test_abandoned_shard_leaves_nothing(s3: Folder, schema: Schema, rows: Callable[..., Columns]) -> None:
    writer = ShardWriter(s3.uri, "train", 0, schema, block_rows=3)
    writer.write(rows(7))
    writer.abandon()
    assert s3.names() == []


def test_verify_names_the_damaged_shard_and_block(s3: Folder, written: Manifest) -> None:
    shard = written.splits["train"][1]
    content = bytearray(s3.get(shard.file))
    content[shard.blocks[1].offset + 20] ^= 1
    s3.put(shard.file, bytes(content))
    (problem,) = verify(s3.uri)
    assert (problem.shard, problem.block) == (shard.file, 1)
    with pytest.raises(
        DatasetError, match=rf"{shard.file}: arrived 3 times with the checksum .* which the manifest states"
    ):
        Dataset(s3.uri).split("train").block(4)


def test_missing_shard_and_missing_dataset_are_reported(s3: Folder, written: Manifest) -> None:
    shard = written.splits["train"][0]
    open_storage(s3.uri).remove(shard.file)
    (problem,) = verify(s3.uri)
    assert (problem.shard, problem.text) == (shard.file, "cannot be read: No such object")
    with pytest.raises(DatasetError, match=f"{s3.uri}/{shard.file}: the shard is missing; prepare the dataset again"):
        Dataset(s3.uri).split("train").block(0)
    with pytest.raises(DatasetError, match=rf"{s3.uri}/none: no manifest\.json, so no dataset"):
        Dataset(f"{s3.uri}/none")


def test_garbage_is_removed_and_recently_replaced_shards_stay(s3: Folder, written: Manifest) -> None:
    s3.put("train/00009-0123456789abcdef.arrow", b"x")
    s3.put("train/notes.txt", b"x")
    assert collect_garbage(s3.uri, written) == []
    mark_as_recent(s3.uri, written)
    empty = written.model_copy(update={"splits": {"train": (), "validation": ()}})
    assert collect_garbage(s3.uri, empty, min_age_s=3600) == []
    assert collect_garbage(s3.uri, written, min_age_s=-1) == ["train/00009-0123456789abcdef.arrow"]
    assert "train/notes.txt" in s3.names()
    assert verify(s3.uri) == []


def test_last_of_two_writers_wins_and_the_shards_of_both_stay(
    s3: Folder, written: Manifest, schema: Schema, rows: Callable[..., Columns], describe: Callable[..., Manifest]
) -> None:
    writer = ShardWriter(s3.uri, "train", 0, schema, block_rows=3)
    writer.write(rows(9, 100))
    second = describe(train=(writer.close(),), validation=())
    write_manifest(s3.uri, second)
    assert read_manifest(s3.uri) == second
    assert verify(s3.uri) == []
    write_manifest(s3.uri, written)
    assert verify(s3.uri) == []


# Refusals ---------------------------------------------------------------------------------------------------


def test_wrong_credentials_are_reported_at_once(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    storage = open_storage(s3.uri)
    for action in (
        storage.create,
        lambda: storage.read("a"),
        lambda: storage.write("a", b""),
        lambda: storage.list_files([""]),
    ):
        with pytest.raises(StorageAccessError, match=r"the store refuses: .*; check AWS_ACCESS_KEY_ID") as caught:
            action()
        assert "wrong-and-secret" not in str(caught.value)


def test_missing_bucket_is_reported(s3: Folder) -> None:
    storage = open_storage("s3://no-such-bucket/a")
    for action in (storage.create, lambda: storage.read("a"), lambda: storage.write("a", b"")):
        with pytest.raises(StorageAccessError, match="there is no bucket no-such-bucket; create it, or fix the URI"):
            action()


def test_endpoint_can_be_given_in_the_uri(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("a", b"content")
    endpoint = os.environ["AWS_ENDPOINT_URL_S3"].removeprefix("http://")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    storage = open_storage(f"{s3.uri}?endpoint_override={endpoint}&scheme=http&region=us-east-1")
    assert storage.read("a") == b"content"
    assert storage.display_path("a") == f"{s3.uri}/a"


def test_other_file_systems_of_pyarrow_work(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    storage = open_storage("fsspec+memory:///farandole/dataset")
    storage.create()
    draft = storage.draft("train/a")
    draft.write_bytes(b"content")
    storage.publish(draft, "train/a")
    storage.write("manifest.json", b"{}")
    assert storage.read("manifest.json") == b"{}"
    assert [file.name for file in storage.list_files(["train", "none"])] == ["train/a"]
    with storage.as_local_file("train/a") as path:
        assert path.read_bytes() == b"content"


# Faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["500", "503", "refuse", "cut", "short", "slow"])
def test_few_faults_are_retried(proxy: FaultyProxy, s3: Folder, tmp_path: Path, kind: str) -> None:
    content = os.urandom(20 * 2**20)
    storage = open_storage(s3.uri)
    draft = storage.draft("a")
    draft.write_bytes(content)
    proxy.inject(kind, 2, method="PUT")
    proxy.inject(kind, 1, method="POST")
    proxy.inject(kind, 4, method="GET", path="/a")
    storage.publish(draft, "a")
    assert s3.get("a") == content
    assert isinstance(storage, object_store.ObjectStorage)
    storage.download("a", tmp_path / "a", len(content))
    assert (tmp_path / "a").read_bytes() == content
    assert proxy.broken >= 6


@pytest.mark.parametrize("kind", ["500", "refuse", "cut", "short"])
def test_endless_faults_end_with_an_error_and_a_remedy(
    few_tries: None, proxy: FaultyProxy, s3: Folder, tmp_path: Path, kind: str
) -> None:
    s3.put("a", b"content" * 1000)
    storage = open_storage(s3.uri)
    assert isinstance(storage, object_store.ObjectStorage)
    proxy.inject(kind, method="GET")
    with pytest.raises(StorageError, match=f"{s3.uri}/a: could not be read in 2 tries: .*; check that the server"):
        storage.download("a", tmp_path / "a", 7000)


def test_interrupted_upload_leaves_no_object(few_tries: None, proxy: FaultyProxy, s3: Folder) -> None:
    storage = open_storage(s3.uri)
    draft = storage.draft("a")
    draft.write_bytes(os.urandom(25 * 2**20))
    proxy.inject("500", method="PUT", path="partNumber=2")
    with pytest.raises(StorageError, match=f"{s3.uri}/a: could not be written in 2 tries"):
        storage.publish(draft, "a")
    assert s3.names() == []
    assert draft.exists()
    draft.unlink()


def test_missing_server_is_reported(few_tries: None, proxy: FaultyProxy, s3: Folder) -> None:
    storage = open_storage(s3.uri)
    proxy.stop()
    with pytest.raises(StorageError, match=r"could not be read in 2 tries: .*; check that the server answers"):
        storage.read("manifest.json")
