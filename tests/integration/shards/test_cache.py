"""Cache of the shards of remote datasets."""

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
    """Provide a dataset of six shards of two blocks each, whose requests the proxy has forgotten."""
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
    """Provide a function that opens the cache as another process would."""
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
    """Return the numbers of the cached shards."""
    return [number for number, shard in enumerate(shards) if (cache_directory() / f"{shard.xxh3_128}.arrow").exists()]


def gets(proxy: FaultyProxy, shard: ShardInfo) -> int:
    return proxy.count("GET", shard.file)


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def read_all(uri: str, order: list[int], answers: multiprocessing.SimpleQueue[object]) -> None:
    """Sum the first numbers of all rows, in another process."""
    reader = Dataset(uri).split("train")
    answers.put(sum(float(reader.block(number)["dense"][:, 0].sum()) for number in order))


def test_shard_is_fetched_once_and_then_read_from_the_cache(s3: Folder, proxy: FaultyProxy, manifest: Manifest) -> None:
    for _ in range(2):
        reader = Dataset(s3.uri).split("train")
        for number in range(2 * NUM_SHARDS):
            assert reader.block(number)["dense"][0, 0] == number * BLOCK_ROWS * 10
    assert [gets(proxy, shard) for shard in manifest.splits["train"]] == [1] * NUM_SHARDS
    assert {path.suffix for path in cache_directory().iterdir()} == {".arrow"}


def test_many_processes_download_each_shard_once(s3: Folder, proxy: FaultyProxy, manifest: Manifest) -> None:
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


def test_lock_of_a_killed_downloader_is_free(
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


def test_damaged_download_is_repeated_and_never_read(
    proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache], s3: Folder
) -> None:
    proxy.inject("flip", 2, method="GET", path=shards[0].file)
    assert caches().path(shards[0]).read_bytes() == s3.get(shards[0].file)
    assert gets(proxy, shards[0]) == 3


def test_shard_that_always_arrives_damaged_is_reported(
    proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    proxy.inject("flip", method="GET", path=shards[0].file)
    with pytest.raises(DatasetError, match=rf"{shards[0].file}: arrived 3 times with the checksum \w+"):
        caches().path(shards[0])
    assert list(cache_directory().iterdir()) == []


def test_cached_copy_that_was_damaged_is_replaced(
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


def test_cache_stays_within_its_limit_and_evicts_the_least_recently_used(
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


def test_announced_shard_with_the_furthest_next_use_is_evicted(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    limit(monkeypatch, shards, 4.1)
    cache = caches()
    cache.announce("train", dict(enumerate(shards[number] for number in (5, 0, 3, 1, 4, 2))))
    until(lambda: kept(shards) == [0, 1, 3, 5])  # fetched ahead, in order, as far as there is room
    cache.postpone("train", shards[5], None)
    cache.postpone("train", shards[0], 9)
    until(lambda: kept(shards) == [1, 2, 3, 4])  # 5 is not needed any more, and 0 later than all others
    cache.path(shards[0])  # needed now: of the others, 2 has the furthest next use
    assert kept(shards) == [0, 1, 3, 4]
    assert [gets(proxy, shard) for shard in shards] == [2, 1, 1, 1, 1, 1]


def test_a_shard_needed_now_is_kept_until_it_is_read(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    limit(monkeypatch, shards, 2.1)
    cache = caches()
    cache.announce("train", dict(enumerate(shards[number] for number in (1, 2, 3))))
    until(lambda: kept(shards) == [1, 2])
    fetch = cache._fetch

    def fetch_and_linger(shard: ShardInfo, *, ahead: bool = False) -> bool:
        fetched = fetch(shard, ahead=ahead)
        if not ahead:  # the other thread has time to fetch 2 again in the place of this shard
            cache._changed.set()
            time.sleep(0.5)
        return fetched

    monkeypatch.setattr(cache, "_fetch", fetch_and_linger)
    cache.path(shards[0])
    assert kept(shards) == [0, 1]
    assert [gets(proxy, shard) for shard in shards[:3]] == [1, 1, 1]


def test_shard_read_by_another_process_is_never_evicted(
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


def test_announced_blocks_are_fetched_ahead(s3: Folder, manifest: Manifest, shards: tuple[ShardInfo, ...]) -> None:
    dataset = Dataset(s3.uri)
    reader = dataset.split("train")
    reader.announce([7, 6, 2, 3])
    until(lambda: kept(shards) == [1, 3])
    assert reader.block(7)["dense"][0, 0] == 7 * BLOCK_ROWS * 10
    for number in (7, 6, 2, 3):
        reader.release(number)
    assert dataset.cache is not None
    dataset.cache.close()


def test_failed_prefetch_is_reported_to_the_reader_that_needs_it(
    proxy: FaultyProxy, shards: tuple[ShardInfo, ...], caches: Callable[[], ShardCache]
) -> None:
    proxy.inject("flip", method="GET", path=shards[0].file)
    cache = caches()
    cache.announce("train", dict(enumerate(shards)))
    until(lambda: kept(shards) == [1, 2, 3, 4, 5])
    with pytest.raises(DatasetError, match="arrived 3 times with the checksum"):
        cache.path(shards[0])


def test_full_disk_is_reported_and_leaves_nothing(
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


def test_unusable_cache_directory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Folder) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FARANDOLE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="Not a directory; set FARANDOLE_CACHE_DIR to a directory"):
        ShardCache(object_store.ObjectStorage(s3.uri))


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf"])
def test_limit_that_is_not_a_number_is_refused(monkeypatch: pytest.MonkeyPatch, s3: Folder, value: str) -> None:
    monkeypatch.setenv("FARANDOLE_CACHE_GB", value)
    with pytest.raises(SpecError, match=f"FARANDOLE_CACHE_GB: '{value}' is not a number of gigabytes"):
        ShardCache(object_store.ObjectStorage(s3.uri))
