"""The shards of a remote dataset on this machine: fetched once, whatever happens meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from farandole.errors import DatasetError, SpecError, StorageError
from farandole.shards import Dataset, Manifest, Schema, ShardInfo, ShardWriter, write_manifest
from farandole.shards.cache import ShardCache, cache_directory
from farandole.storage import object_store
from tests.support.object_store import FaultyProxy, Folder

Columns = dict[str, np.ndarray]
NUM_SHARDS = 6
BLOCK_ROWS = 500
SHARD_ROWS = 1000


@pytest.fixture
def manifest(
    s3: Folder, proxy: FaultyProxy, schema: Schema, rows: Callable[..., Columns], describe: Callable[..., Manifest]
) -> Manifest:
    """Six shards of two blocks each; the proxy has seen nothing yet."""
    shards = []
    for index in range(NUM_SHARDS):
        writer = ShardWriter(s3.uri, "train", index, schema, BLOCK_ROWS)
        writer.write(rows(SHARD_ROWS, index * SHARD_ROWS))
        shards.append(writer.close())
    manifest = describe(train=tuple(shards))
    write_manifest(s3.uri, manifest)
    proxy.requests.clear()
    return manifest


@pytest.fixture
def shards(manifest: Manifest) -> tuple[ShardInfo, ...]:
    return manifest.splits["train"]


@pytest.fixture
def caches(s3: Folder) -> Iterator[Callable[[], ShardCache]]:
    """Opens the cache as another process would."""
    opened: list[ShardCache] = []

    def open_cache() -> ShardCache:
        storage = object_store.ObjectStorage(s3.uri)
        opened.append(ShardCache(storage))
        return opened[-1]

    yield open_cache
    for cache in opened:
        cache.close()


def limit(monkeypatch: pytest.MonkeyPatch, shards: tuple[ShardInfo, ...], count: float) -> None:
    monkeypatch.setenv("FARANDOLE_CACHE_GB", str(count * max(shard.bytes for shard in shards) / 1e9))


def kept(shards: tuple[ShardInfo, ...]) -> list[int]:
    """The numbers of the shards that lie in the cache."""
    return [number for number, shard in enumerate(shards) if (cache_directory() / f"{shard.xxh3_128}.arrow").exists()]


def gets(proxy: FaultyProxy, shard: ShardInfo) -> int:
    return proxy.count("GET", shard.file)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def read_all(uri: str, order: list[int], answers: multiprocessing.SimpleQueue[object]) -> None:
    """In another process: the sum of the rows' first numbers."""
    reader = Dataset(uri).split("train")
    answers.put(sum(float(reader.block(number)["dense"][:, 0].sum()) for number in order))


def test_a_shard_is_fetched_once_and_then_read_here(s3: Folder, proxy: FaultyProxy, manifest: Manifest) -> None:
    for _ in range(2):
        reader = Dataset(s3.uri).split("train")
        for number in range(2 * NUM_SHARDS):
            assert reader.block(number)["dense"][0, 0] == number * BLOCK_ROWS * 10
    assert [gets(proxy, shard) for shard in manifest.splits["train"]] == [1] * NUM_SHARDS
    assert {path.suffix for path in cache_directory().iterdir()} == {".arrow"}


def test_many_processes_make_one_download_of_each_shard(s3: Folder, proxy: FaultyProxy, manifest: Manifest) -> None:
    proxy.inject("slow", path="train/")
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    orders = [list(range(12)), list(reversed(range(12))), [*range(6, 12), *range(6)]]
    processes = [context.Process(target=read_all, args=(s3.uri, order, answers)) for order in orders]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    assert found == [float(np.arange(NUM_SHARDS * SHARD_ROWS).sum() * 10)] * 3
    assert [gets(proxy, shard) for shard in manifest.splits["train"]] == [1] * NUM_SHARDS


def test_the_lock_of_a_downloader_that_was_killed_is_free(
    s3: Folder, proxy: FaultyProxy, manifest: Manifest, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def hold(method: str, url: str) -> None:
        if method == "GET" and shards[0].file in url and not arrived.is_set():
            arrived.set()
            go_on.wait(60)

    proxy.before = hold
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=read_all, args=(s3.uri, [0], answers))
    process.start()
    assert arrived.wait(60)
    (left,) = cache_directory().glob("*.tmp")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    go_on.set()
    path = caches().path(shards[0])
    assert path.stat().st_size == shards[0].bytes
    assert not left.exists()


def test_wrong_bytes_are_fetched_again_and_never_read(
    proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache], s3: Folder
) -> None:
    proxy.inject("flip", 2, method="GET", path=shards[0].file)
    assert caches().path(shards[0]).read_bytes() == s3.get(shards[0].file)
    assert gets(proxy, shards[0]) == 3


def test_a_shard_that_always_arrives_damaged_is_told(
    proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    proxy.inject("flip", method="GET", path=shards[0].file)
    with pytest.raises(DatasetError, match=rf"{shards[0].file}: what arrives has the checksum \w+, 3 times in a row"):
        caches().path(shards[0])
    assert list(cache_directory().iterdir()) == []


def test_a_copy_that_was_damaged_on_this_disk_is_replaced(
    s3: Folder, proxy: FaultyProxy, manifest: Manifest, rows: Callable[..., Columns]
) -> None:
    shard = manifest.splits["train"][0]
    path = Dataset(s3.uri).local_path(shard)
    content = bytearray(path.read_bytes())
    content[shard.blocks[1].offset + 100] ^= 1
    path.write_bytes(content)
    block = Dataset(s3.uri).split("train").block(1)
    np.testing.assert_array_equal(block["dense"], rows(BLOCK_ROWS, BLOCK_ROWS)["dense"])
    assert gets(proxy, shard) == 2


def test_the_cache_stays_within_its_limit_and_gives_up_what_was_read_the_longest_ago(
    monkeypatch: pytest.MonkeyPatch, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    limit(monkeypatch, shards, 3.1)
    cache = caches()
    for number in (0, 1, 2):
        cache.path(shards[number])
        os.utime(cache_directory() / f"{shards[number].xxh3_128}.arrow", (number, number))
    for number in (3, 4):
        cache.path(shards[number])
    assert kept(shards) == [2, 3, 4]


def test_of_announced_shards_the_one_with_the_furthest_next_use_goes(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    limit(monkeypatch, shards, 4.1)
    cache = caches()
    cache.announce("train", dict(enumerate(shards[number] for number in (5, 0, 3, 1, 4, 2))))
    until(lambda: kept(shards) == [0, 1, 3, 5])  # fetched ahead, in order, as far as there is room
    cache.postpone("train", shards[5], None)
    cache.postpone("train", shards[0], 9)
    until(lambda: kept(shards) == [1, 2, 3, 4])  # 5 is not needed any more, and 0 later than all others
    cache.path(shards[0])  # it is needed nevertheless: of the others, 2 has the furthest next use
    assert kept(shards) == [0, 1, 3, 4]
    assert [gets(proxy, shard) for shard in shards] == [2, 1, 1, 1, 1, 1]


def test_a_shard_that_another_process_reads_is_never_removed(
    monkeypatch: pytest.MonkeyPatch, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    limit(monkeypatch, shards, 3.1)
    other, cache = caches(), caches()
    other.path(shards[0])
    for number in (1, 2, 3, 4):
        cache.path(shards[number])
    assert kept(shards) == [0, 3, 4]
    other.announce("train", {0: shards[3]})  # it is done with 0
    cache.path(shards[5])
    assert kept(shards) == [3, 4, 5]


def test_the_reader_announces_blocks_and_their_shards_come_ahead(
    s3: Folder, manifest: Manifest, shards: tuple[ShardInfo, ...]
) -> None:
    dataset = Dataset(s3.uri)
    reader = dataset.split("train")
    reader.announce([7, 6, 2, 3])
    until(lambda: kept(shards) == [1, 3])
    assert reader.block(7)["dense"][0, 0] == 7 * BLOCK_ROWS * 10
    for number in (7, 6, 2, 3):
        reader.release(number)
    assert dataset.cache is not None
    dataset.cache.close()


def test_what_cannot_be_fetched_ahead_is_told_to_who_needs_it(
    proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    proxy.inject("flip", method="GET", path=shards[0].file)
    cache = caches()
    cache.announce("train", dict(enumerate(shards)))
    until(lambda: kept(shards) == [1, 2, 3, 4, 5])
    with pytest.raises(DatasetError, match="what arrives has the checksum"):
        cache.path(shards[0])


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        monkeypatch.setenv("FARANDOLE_CACHE_DIR", str(disk))
        monkeypatch.setenv("FARANDOLE_CACHE_GB", "1")
        with pytest.raises(StorageError, match=f"{disk}: No space left on device while .* was fetched; free some"):
            caches().path(shards[0])
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Folder) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FARANDOLE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="Not a directory; point FARANDOLE_CACHE_DIR at a directory"):
        ShardCache(object_store.ObjectStorage(s3.uri))


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, s3: Folder, value: str) -> None:
    monkeypatch.setenv("FARANDOLE_CACHE_GB", value)
    with pytest.raises(SpecError, match=f"FARANDOLE_CACHE_GB: '{value}' is not a number of gigabytes"):
        ShardCache(object_store.ObjectStorage(s3.uri))
