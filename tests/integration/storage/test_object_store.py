"""Directories here and in a real object store: the same promises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farandole.errors import DatasetError, StorageAccessError, StorageError
from farandole.shards import (
    Dataset,
    Manifest,
    Schema,
    ShardWriter,
    Storage,
    collect_garbage,
    mark_as_recent,
    open_storage,
    read_manifest,
    verify,
    write_manifest,
)
from farandole.storage import object_store
from tests.support.object_store import FaultyProxy, Folder

Columns = dict[str, np.ndarray]


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    place = tmp_path / "dataset" if request.param == "local" else request.getfixturevalue("s3").uri
    storage = open_storage(place)
    storage.create()
    return storage


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless faults are found out sooner."""
    monkeypatch.setattr(object_store, "TRIES", 2)
    monkeypatch.setattr(object_store, "FIRST_PAUSE_S", 0.01)


# The same for both ------------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written_and_replaced_as_a_whole(storage: Storage) -> None:
    for content in (b"first", b"", os.urandom(100_000)):
        storage.write("manifest.json", content)
        assert storage.read("manifest.json") == content
    with pytest.raises(FileNotFoundError):
        storage.read("none.json")


def test_a_draft_is_seen_only_when_it_is_published(storage: Storage) -> None:
    content = os.urandom(11 * 2**20)  # more than one part of an upload
    draft = storage.draft("train/00000")
    draft.write_bytes(content)
    assert [file.name for file in storage.files(["train"]) if file.name.endswith(".arrow")] == []
    storage.publish(draft, "train/00000-ab.arrow")
    assert not draft.exists()
    (file,) = storage.files(["train"])
    assert (file.name, file.bytes) == ("train/00000-ab.arrow", len(content))
    with storage.fetched("train/00000-ab.arrow") as path:
        assert path.read_bytes() == content


def test_files_are_listed_by_folder_and_sorted(storage: Storage) -> None:
    for name in ("test/b", "train/b", "train/a", "other/c"):
        draft = storage.draft(name)
        draft.write_bytes(b"x")
        storage.publish(draft, name)
    assert [file.name for file in storage.files(["train", "test", "validation"])] == ["test/b", "train/a", "train/b"]


def test_removing_and_fetching_what_is_not_there(storage: Storage) -> None:
    storage.remove("train/none")
    with pytest.raises(FileNotFoundError), storage.fetched("train/none"):
        raise AssertionError("it is not there")


def test_a_renewed_file_counts_as_new(storage: Storage) -> None:
    draft = storage.draft("train/a")
    draft.write_bytes(b"x")
    storage.publish(draft, "train/a")
    if isinstance(storage.place, Path):
        os.utime(storage.place / "train/a", (1000, 1000))
    (before,) = storage.files(["train"])
    storage.renew(["train/a", "train/gone"])
    (after,) = storage.files(["train"])
    assert after.modified_s >= before.modified_s
    assert after.modified_s > 1001


# Datasets in an object store --------------------------------------------------------------------------------


@pytest.fixture
def written(s3: Folder, schema: Schema, rows: Callable[..., Columns], describe: Callable[..., Manifest]) -> Manifest:
    """Two shards of 7 and 5 rows, in the bucket."""
    shards = []
    for index, (count, start) in enumerate([(7, 0), (5, 7)]):
        writer = ShardWriter(s3.uri, "train", index, schema, block_rows=3)
        writer.write(rows(count, start))
        shards.append(writer.close())
    manifest = describe(train=tuple(shards), validation=())
    write_manifest(s3.uri, manifest)
    return manifest


def test_a_dataset_is_written_verified_and_read(s3: Folder, written: Manifest, rows: Callable[..., Columns]) -> None:
    assert s3.names() == ["manifest.json", *(shard.file for shard in written.splits["train"])]
    assert read_manifest(s3.uri) == written
    assert verify(s3.uri) == []
    reader = Dataset(s3.uri).split("train")
    blocks = [reader.block(number) for number in range(5)]
    for name, values in rows(12).items():
        np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks]), values)


def test_the_same_shard_has_the_same_bytes_here_and_there(
    s3: Folder, written: Manifest, tmp_path: Path, schema: Schema, rows: Callable[..., Columns]
) -> None:
    writer = ShardWriter(tmp_path, "train", 0, schema, block_rows=3)
    writer.write(rows(7))
    assert writer.close() == written.splits["train"][0]
    assert s3.get(written.splits["train"][0].file) == (tmp_path / written.splits["train"][0].file).read_bytes()


def test_an_abandoned_shard_leaves_nothing(s3: Folder, schema: Schema, rows: Callable[..., Columns]) -> None:
    writer = ShardWriter(s3.uri, "train", 0, schema, block_rows=3)
    writer.write(rows(7))
    writer.abandon()
    assert s3.names() == []


def test_verify_names_the_shard_and_block_that_is_damaged(s3: Folder, written: Manifest) -> None:
    shard = written.splits["train"][1]
    content = bytearray(s3.get(shard.file))
    content[shard.blocks[1].offset + 20] ^= 1
    s3.put(shard.file, bytes(content))
    (problem,) = verify(s3.uri)
    assert (problem.shard, problem.block) == (shard.file, 1)
    with pytest.raises(DatasetError, match=rf"{shard.file}: what arrives has the checksum .* the manifest says"):
        Dataset(s3.uri).split("train").block(4)


def test_a_missing_shard_and_a_missing_dataset_are_told(s3: Folder, written: Manifest) -> None:
    shard = written.splits["train"][0]
    open_storage(s3.uri).remove(shard.file)
    (problem,) = verify(s3.uri)
    assert (problem.shard, problem.text) == (shard.file, "cannot be read: No such object")
    with pytest.raises(DatasetError, match=f"{s3.uri}/{shard.file}: the shard is missing; prepare the dataset again"):
        Dataset(s3.uri).split("train").block(0)
    with pytest.raises(DatasetError, match=rf"{s3.uri}/none: no manifest\.json, so no dataset"):
        Dataset(f"{s3.uri}/none")


def test_garbage_is_removed_and_what_was_just_replaced_stays(s3: Folder, written: Manifest) -> None:
    s3.put("train/00009-0123456789abcdef.arrow", b"x")
    s3.put("train/notes.txt", b"x")
    assert collect_garbage(s3.uri, written) == []
    mark_as_recent(s3.uri, written)
    empty = written.model_copy(update={"splits": {"train": (), "validation": ()}})
    assert collect_garbage(s3.uri, empty, min_age_s=3600) == []
    assert collect_garbage(s3.uri, written, min_age_s=-1) == ["train/00009-0123456789abcdef.arrow"]
    assert "train/notes.txt" in s3.names()
    assert verify(s3.uri) == []


def test_the_last_of_two_writers_wins_and_the_shards_of_both_are_there(
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


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://key:s3cret@bucket/a", r"s3://…@bucket/a: a URI must not hold credentials; set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/a?regoin=x", "s3://bucket/a: the URI has no option regoin; did you mean region"),
        ("s3:///a", "names no bucket; write s3://BUCKET/FOLDER"),
        ("https://host/a", "https://host/a: cannot be opened .*; mend the URI"),
    ],
)
def test_a_uri_that_cannot_be_used_is_refused(uri: str, text: str) -> None:
    with pytest.raises(StorageAccessError, match=text) as caught:
        open_storage(uri)
    assert "s3cret" not in str(caught.value)


def test_wrong_credentials_are_told_at_once(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    storage = open_storage(s3.uri)
    for action in (
        storage.create,
        lambda: storage.read("a"),
        lambda: storage.write("a", b""),
        lambda: storage.files([""]),
    ):
        with pytest.raises(StorageAccessError, match=r"the store refuses: .*; check AWS_ACCESS_KEY_ID") as caught:
            action()
        assert "wrong-and-secret" not in str(caught.value)


def test_a_missing_bucket_is_told(s3: Folder) -> None:
    storage = open_storage("s3://no-such-bucket/a")
    for action in (storage.create, lambda: storage.read("a"), lambda: storage.write("a", b"")):
        with pytest.raises(StorageAccessError, match="there is no bucket no-such-bucket; make it, or mend the URI"):
            action()


def test_the_endpoint_may_stand_in_the_uri(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("a", b"content")
    endpoint = os.environ["AWS_ENDPOINT_URL_S3"].removeprefix("http://")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    storage = open_storage(f"{s3.uri}?endpoint_override={endpoint}&scheme=http&region=us-east-1")
    assert storage.read("a") == b"content"
    assert storage.shown("a") == f"{s3.uri}/a"


def test_any_other_file_system_of_pyarrow_will_do(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    storage = open_storage("fsspec+memory:///farandole/dataset")
    storage.create()
    draft = storage.draft("train/a")
    draft.write_bytes(b"content")
    storage.publish(draft, "train/a")
    storage.write("manifest.json", b"{}")
    assert storage.read("manifest.json") == b"{}"
    assert [file.name for file in storage.files(["train", "none"])] == ["train/a"]
    with storage.fetched("train/a") as path:
        assert path.read_bytes() == b"content"


# Faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["500", "503", "refuse", "cut", "short", "slow"])
def test_a_few_faults_are_overcome(proxy: FaultyProxy, s3: Folder, tmp_path: Path, kind: str) -> None:
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
def test_endless_faults_end_with_an_error_that_says_what_to_do(
    impatient: None, proxy: FaultyProxy, s3: Folder, tmp_path: Path, kind: str
) -> None:
    s3.put("a", b"content" * 1000)
    storage = open_storage(s3.uri)
    assert isinstance(storage, object_store.ObjectStorage)
    proxy.inject(kind, method="GET")
    with pytest.raises(StorageError, match=f"{s3.uri}/a: could not be read in 2 tries: .*; see whether the server"):
        storage.download("a", tmp_path / "a", 7000)


def test_an_upload_that_breaks_off_leaves_no_object(impatient: None, proxy: FaultyProxy, s3: Folder) -> None:
    storage = open_storage(s3.uri)
    draft = storage.draft("a")
    draft.write_bytes(os.urandom(25 * 2**20))
    proxy.inject("500", method="PUT", path="partNumber=2")
    with pytest.raises(StorageError, match=f"{s3.uri}/a: could not be written in 2 tries"):
        storage.publish(draft, "a")
    assert s3.names() == []
    assert draft.exists()
    draft.unlink()


def test_a_server_that_is_gone_is_told(impatient: None, proxy: FaultyProxy, s3: Folder) -> None:
    storage = open_storage(s3.uri)
    proxy.stop()
    with pytest.raises(StorageError, match=r"could not be read in 2 tries: .*; see whether the server answers"):
        storage.read("manifest.json")


def test_local_data_does_not_load_what_object_stores_need(tmp_path: Path) -> None:
    code = (
        "import sys, farandole.shards as s; s.storage_of(sys.argv[1]).create();"
        " print([name for name in ('farandole.storage.object_store', 'farandole.shards.cache') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
