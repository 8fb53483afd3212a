"""Cache of the shards of remote datasets on this machine: each is fetched once, checked, and shared by all processes.

A file's name is its checksum, so that datasets share what they have in common and nothing in the cache can be out of
date. Processes coordinate by kernel locks:

- an exclusive lock on `KEY.lock`: this process fetches the shard; the others wait, and then find it in the cache;
- a shared lock on `KEY.arrow`: this process reads the shard, so no other process removes it.

To make room, the cache evicts the shard whose next use is the furthest (L. A. Belady: "A study of replacement
algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966), as far as the loader has announced it; of
the others, the least recently used one goes first.
"""

from __future__ import annotations

import atexit
import mmap
import os
import shutil
import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from farandole.errors import DatasetError, FarandoleError, SpecError, StorageError
from farandole.process.atomic import publish
from farandole.process.locks import Lock, share_lock, temporary_lock, try_lock
from farandole.shards.manifest import ShardInfo
from farandole.storage import home
from farandole.storage.object_store import ObjectStorage

_MAX_HELD = 64
"""The number of shards that a process locks for reading at most: each lock is an open file."""
_FETCHES = 3
"""The number of times that a shard is fetched if it arrives damaged."""
_FREE_SHARE = 0.1
"""Without `FARANDOLE_CACHE_GB`, the cache leaves this share of its disk free."""


def cache_directory() -> Path:
    """Return the directory of the cache: `$FARANDOLE_CACHE_DIR`, or `cache/shards` in `$FARANDOLE_HOME`."""
    named = os.environ.get("FARANDOLE_CACHE_DIR")
    return Path(named).expanduser().absolute() if named else home() / "cache" / "shards"


class ShardCache:
    """One process's access to the machine's cache, for the shards of one dataset.

    Args:
        storage: The storage of the dataset.
        directory: The cache. Default: `cache_directory()`.
    """

    def __init__(self, storage: ObjectStorage, directory: Path | None = None) -> None:
        self._storage = storage
        self._directory = directory or cache_directory()
        self._limit_bytes = _limit_bytes()
        self._held: OrderedDict[str, Lock] = OrderedDict()
        self._needed: Counter[str] = Counter()
        self._announced: dict[str, dict[str, tuple[int, ShardInfo]]] = {}
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        with self._report_disk_errors():
            self._directory.mkdir(parents=True, exist_ok=True)

    def path(self, shard: ShardInfo) -> Path:
        """Return the path of a complete and checked shard; wait until it is fetched.

        Raises:
            DatasetError: The shard is missing, or damaged in the object store.
            StorageAccessError: The object store refuses.
            StorageError: The object store does not answer, or the disk is full.
        """
        with self._report_disk_errors(), self._need(shard.xxh3_128):
            while not self._hold(shard.xxh3_128, shard.bytes):
                self._fetch(shard)
        return self._path(shard.xxh3_128)

    @contextmanager
    def _need(self, key: str) -> Iterator[None]:
        """Keep this process from evicting a shard between its fetch and its lock for reading."""
        with self._mutex:
            self._needed[key] += 1
        try:
            yield
        finally:
            with self._mutex:
                self._needed[key] -= 1

    def announce(self, reader: str, uses: Mapping[int, ShardInfo]) -> None:
        """Announce when a reader needs which shards for the first time; this replaces its earlier announcement.

        A thread fetches them ahead, as far as there is room. Shards that no reader needs any more are released.

        Args:
            reader: The name of the reader.
            uses: The time of a use, in a unit that all readers share, to the shard.
        """
        with self._mutex:
            self._announced[reader] = {shard.xxh3_128: (use, shard) for use, shard in uses.items()}
            for key in [key for key in self._held if not self._wanted(key)]:
                self._release(key)
        self._changed.set()
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._fetch_ahead, name="farandole-cache", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # before Python takes pyarrow down around a thread that uses it

    def postpone(self, reader: str, shard: ShardInfo, use: int | None) -> None:
        """Announce when a reader needs an announced shard again; None: never."""
        key = shard.xxh3_128
        with self._mutex:
            uses = self._announced.get(reader, {})
            uses.pop(key, None)
            if use is not None:
                uses[key] = (use, shard)
            elif not self._wanted(key):
                self._release(key)
        self._changed.set()

    def _wanted(self, key: str) -> bool:
        return any(key in uses for uses in self._announced.values())

    def discard(self, shard: ShardInfo) -> None:
        """Remove a shard whose file was damaged on this machine's disk; it will be fetched again."""
        with self._mutex:
            self._release(shard.xxh3_128)
        self._path(shard.xxh3_128).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop fetching ahead, and release all shards."""
        self._closed.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            atexit.unregister(self.close)
        with self._mutex:
            for key in list(self._held):
                self._release(key)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.arrow"

    def _present(self, key: str, size: int) -> bool:
        try:
            return self._path(key).stat().st_size == size
        except FileNotFoundError:
            return False

    def _hold(self, key: str, size: int) -> bool:
        """Lock a shard for reading; return False if it is not in the cache."""
        with self._mutex:
            if key in self._held:
                self._held.move_to_end(key)
                if self._present(key, size):
                    return True
                self._release(key)
            try:
                lock = share_lock(self._path(key))
            except FileNotFoundError:
                return False
            # Another process may have removed it between the opening of the file and the locking.
            if os.fstat(lock.descriptor).st_nlink == 0 or not self._present(key, size):
                lock.release()
                return False
            with suppress(OSError):  # in a cache of another user, the time of the last use is not updated
                os.utime(lock.descriptor)
            self._held[key] = lock
            while len(self._held) > _MAX_HELD:
                self._held.popitem(last=False)[1].release()
            return True

    def _release(self, key: str) -> None:
        lock = self._held.pop(key, None)
        if lock is not None:
            lock.release()

    def _fetch(self, shard: ShardInfo, *, ahead: bool = False) -> bool:
        """Fetch a shard, unless another process has done so meanwhile.

        Args:
            shard: The shard.
            ahead: Whether it is not needed yet: it evicts nothing that is needed sooner, and `close` stops it.

        Returns:
            Whether it is in the cache now.
        """
        key = shard.xxh3_128
        with temporary_lock(self._directory / f"{key}.lock"):
            if self._present(key, shard.bytes):
                return True
            for left in self._directory.glob(f"{key}.*.tmp"):  # of a process that was killed: the lock was free
                left.unlink(missing_ok=True)
            temporary = self._directory / f"{key}.{uuid.uuid4().hex}.tmp"
            try:
                if not self._reserve(shard, temporary, ahead):
                    return False
                for _ in range(_FETCHES):
                    self._download(shard, temporary, ahead)
                    if ahead and self._closed.is_set():
                        return False
                    found = _checksum(temporary)
                    if found == key:
                        publish(temporary, self._path(key))
                        return True
                raise DatasetError(
                    f"{self._storage.display_path(shard.file)}: arrived {_FETCHES} times with the checksum {found}"
                    f" instead of {key}, which the manifest states; prepare the dataset again"
                )
            finally:
                temporary.unlink(missing_ok=True)

    def _download(self, shard: ShardInfo, temporary: Path, ahead: bool) -> None:
        try:
            self._storage.download(
                shard.file, temporary, shard.bytes, is_wanted=lambda: not (ahead and self._closed.is_set())
            )
        except FileNotFoundError:
            raise DatasetError(
                f"{self._storage.display_path(shard.file)}: the shard is missing; prepare the dataset again"
            ) from None

    def _fetch_ahead(self) -> None:
        """Fetch announced shards in the order of their use, as long as nothing that is used sooner has to go."""
        failed: set[str] = set()
        while not self._closed.is_set():
            shard = self._next_to_fetch(failed)
            try:
                fetched = shard is not None and self._fetch(shard, ahead=True)
            except (FarandoleError, OSError):
                assert shard is not None
                failed.add(shard.xxh3_128)  # the reader that needs the shard will meet the error
                continue
            if not fetched:
                self._changed.wait()
                self._changed.clear()

    def _next_to_fetch(self, failed: set[str]) -> ShardInfo | None:
        with self._mutex:
            uses = self._next_uses()
        missing = [
            (use, key)
            for key, (use, shard) in uses.items()
            if key not in failed and not self._present(key, shard.bytes)
        ]
        return uses[min(missing)[1]][1] if missing else None

    def _next_uses(self) -> dict[str, tuple[int, ShardInfo]]:
        """Return the next use of each announced shard."""
        nearest: dict[str, tuple[int, ShardInfo]] = {}
        for uses in self._announced.values():
            for key, (use, shard) in uses.items():
                if key not in nearest or use < nearest[key][0]:
                    nearest[key] = (use, shard)
        return nearest

    def _reserve(self, shard: ShardInfo, temporary: Path, ahead: bool) -> bool:
        """Reserve the room for a shard by a file of its size; evict shards until there is enough.

        Shards that other processes read stay. If room is still missing, a shard that is needed now is fetched all the
        same and exceeds the limit; one that is fetched ahead is not.
        """
        with temporary_lock(self._directory / "room.lock"), self._mutex:
            use = {key: found for key, (found, _) in self._next_uses().items()}
            never = max(use.values(), default=0) + 1
            own = use.get(shard.xxh3_128, never) if ahead else -1
            kept = {shard.xxh3_128, next(reversed(self._held), None), *+self._needed}
            later = [
                (use.get(key, never), -read_s, key, size)
                for key, size, read_s in self._files()
                if use.get(key, never) > own and key not in kept
            ]
            excess = self._used() + shard.bytes - self._allowance()
            if ahead and excess > sum(size for *_, size in later):
                return False
            for _, _, key, size in sorted(later, reverse=True):
                if excess <= 0:
                    break
                if self._evict(key):
                    excess -= size
            if ahead and excess > 0:
                return False
            self._storage.reserve(temporary, shard.bytes, shard.file)
            return True

    def _evict(self, key: str) -> bool:
        """Remove a shard unless another process reads it. A mapping of it in this process stays valid."""
        self._release(key)
        try:
            lock = try_lock(self._path(key), create=False)
        except FileNotFoundError:
            return False
        if lock is None:
            return False
        with lock:
            self._path(key).unlink(missing_ok=True)
        return True

    def _files(self) -> Iterator[tuple[str, int, float]]:
        """Yield the cached shards: key, size in bytes, time of the last use."""
        for path in self._directory.glob("*.arrow"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield path.stem, stat.st_size, stat.st_mtime

    def _used(self) -> int:
        """Return the size of all files in bytes, unfinished ones included."""
        used = 0
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):
                used += path.stat().st_size
        return used

    def _allowance(self) -> int:
        """Return the number of bytes that the cache may take."""
        if self._limit_bytes is not None:
            return self._limit_bytes
        disk = shutil.disk_usage(self._directory)
        return int(self._used() + disk.free - _FREE_SHARE * disk.total)

    @contextmanager
    def _report_disk_errors(self) -> Iterator[None]:
        """Raise errors of this machine's disk as StorageError."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{error.filename or self._directory}: {error.strerror or error}; set FARANDOLE_CACHE_DIR to a"
                " directory of this machine that you may write to"
            ) from error


def _limit_bytes() -> int | None:
    named = os.environ.get("FARANDOLE_CACHE_GB")
    try:
        limit = float(named) if named else None
    except ValueError:
        limit = -1.0
    if limit is not None and not 0 <= limit < float("inf"):
        raise SpecError(f"FARANDOLE_CACHE_GB: {named!r} is not a number of gigabytes; use for example 50")
    return None if limit is None else int(limit * 1e9)


def _checksum(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        return xxhash.xxh3_128_hexdigest(memory)
