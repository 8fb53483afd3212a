"""The shards of remote datasets on this machine: each fetched once, checked, shared by all processes.

A file's name is its checksum, so that datasets share what they have in common and nothing in the cache can be out of
date. Processes agree by locks of the kernel (`flock`), which go with whoever holds them:

- an exclusive lock on `KEY.lock`: this process fetches the shard; the others wait, and then find it there;
- a shared lock on `KEY.arrow`: this process reads the shard, so no other process removes it.

Where room is needed, the shard goes whose next use is the furthest (L. A. Belady: "A study of replacement algorithms
for a virtual-storage computer", IBM Systems Journal 5(2), 1966), as far as the loader has announced it; of the others
the one that was read the longest ago goes first.
"""

from __future__ import annotations

import atexit
import fcntl
import mmap
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from farandole.errors import DatasetError, FarandoleError, SpecError, StorageError
from farandole.process.locks import temporary_lock
from farandole.shards.manifest import ShardInfo
from farandole.storage import home
from farandole.storage.object_store import ObjectStorage

_MOST_HELD = 64
"""A process marks at most so many shards as being read: each mark is an open file."""
_FETCHES = 3
"""How often a shard is fetched that arrives damaged."""
_FREE_SHARE = 0.1
"""Without `FARANDOLE_CACHE_GB`, the cache leaves this share of its disk free."""


def cache_directory() -> Path:
    """Where shards are kept: `$FARANDOLE_CACHE_DIR`, or `cache/shards` in `$FARANDOLE_HOME`."""
    named = os.environ.get("FARANDOLE_CACHE_DIR")
    return Path(named).expanduser().absolute() if named else home() / "cache" / "shards"


class ShardCache:
    """One process's door to the machine's cache, for the shards of one dataset.

    Args:
        storage: Where the dataset lies.
        directory: The cache. Default: `cache_directory()`.
    """

    def __init__(self, storage: ObjectStorage, directory: Path | None = None) -> None:
        self._storage = storage
        self._directory = directory or cache_directory()
        self._limit_bytes = _limit_bytes()
        self._held: OrderedDict[str, int] = OrderedDict()
        self._announced: dict[str, dict[str, tuple[int, ShardInfo]]] = {}
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._news = threading.Event()
        self._thread: threading.Thread | None = None
        with self._disk_told():
            self._directory.mkdir(parents=True, exist_ok=True)

    def path(self, shard: ShardInfo) -> Path:
        """The shard as a file that lies ready, whole and checked; waits until it does.

        Raises:
            DatasetError: The shard is missing, or damaged where it comes from.
            StorageRefused: The store will not give it.
            StorageFailed: The store does not answer, or the disk is full.
        """
        with self._disk_told():
            while not self._hold(shard.xxh3_128, shard.bytes):
                self._fetch(shard)
        return self._path(shard.xxh3_128)

    def announce(self, reader: str, uses: Mapping[int, ShardInfo]) -> None:
        """Say when a reader needs which shards for the first time; this replaces what it said before.

        They are fetched ahead by a thread, as far as there is room. Shards that no reader needs any more are given up.

        Args:
            reader: The name of the reader.
            uses: The time of a use, in whatever unit all readers share, to the shard.
        """
        with self._mutex:
            self._announced[reader] = {shard.xxh3_128: (use, shard) for use, shard in uses.items()}
            for key in [key for key in self._held if not self._wanted(key)]:
                self._release(key)
        self._news.set()
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._fetch_ahead, name="farandole-cache", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # before Python takes pyarrow down around a thread that uses it

    def postpone(self, reader: str, shard: ShardInfo, use: int | None) -> None:
        """Say when a reader needs an announced shard again; None: not any more."""
        key = shard.xxh3_128
        with self._mutex:
            uses = self._announced.get(reader, {})
            uses.pop(key, None)
            if use is not None:
                uses[key] = (use, shard)
            elif not self._wanted(key):
                self._release(key)
        self._news.set()

    def _wanted(self, key: str) -> bool:
        return any(key in uses for uses in self._announced.values())

    def discard(self, shard: ShardInfo) -> None:
        """Forget a shard whose file was damaged on this machine's disk; it will be fetched again."""
        with self._mutex:
            self._release(shard.xxh3_128)
        self._path(shard.xxh3_128).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop fetching ahead, and give up all shards."""
        self._closed.set()
        self._news.set()
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
        """Mark a shard as being read; False where it does not lie here."""
        with self._mutex:
            if key in self._held:
                self._held.move_to_end(key)
                if self._present(key, size):
                    return True
                self._release(key)
            try:
                descriptor = os.open(self._path(key), os.O_RDONLY)
            except FileNotFoundError:
                return False
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            # Between the two calls somebody may have removed it.
            if os.fstat(descriptor).st_nlink == 0 or not self._present(key, size):
                os.close(descriptor)
                return False
            with suppress(OSError):  # a cache of another user: its times say a little less then
                os.utime(descriptor)
            self._held[key] = descriptor
            while len(self._held) > _MOST_HELD:
                os.close(self._held.popitem(last=False)[1])
            return True

    def _release(self, key: str) -> None:
        descriptor = self._held.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)

    def _fetch(self, shard: ShardInfo, *, ahead: bool = False) -> bool:
        """Bring a shard here, unless another process has done so meanwhile.

        Args:
            shard: The shard.
            ahead: It is not needed yet: nothing that is needed sooner makes room for it, and `close` stops it.

        Returns:
            Whether it lies here now.
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
                        os.replace(temporary, self._path(key))
                        return True
                raise DatasetError(
                    f"{self._storage.display_path(shard.file)}: what arrives has the checksum {found}, {_FETCHES} times in a"
                    f" row; the manifest says {key}: prepare the dataset again"
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
        """Fetch what was announced and is not here, the next one first, as long as nothing nearer has to go."""
        failed: set[str] = set()
        while not self._closed.is_set():
            shard = self._next_to_fetch(failed)
            try:
                fetched = shard is not None and self._fetch(shard, ahead=True)
            except (FarandoleError, OSError):
                assert shard is not None
                failed.add(shard.xxh3_128)  # who needs the shard will ask for it, and meet the error
                continue
            if not fetched:
                self._news.wait()
                self._news.clear()

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
        """When each announced shard is needed next."""
        nearest: dict[str, tuple[int, ShardInfo]] = {}
        for uses in self._announced.values():
            for key, (use, shard) in uses.items():
                if key not in nearest or use < nearest[key][0]:
                    nearest[key] = (use, shard)
        return nearest

    def _reserve(self, shard: ShardInfo, temporary: Path, ahead: bool) -> bool:
        """Take the room for a shard, as a file of its size; shards are removed until there is enough.

        What other processes read stays. Then a shard that is needed now comes nevertheless, and the limit is exceeded;
        one that is fetched ahead does not.
        """
        with temporary_lock(self._directory / "room.lock"), self._mutex:
            use = {key: found for key, (found, _) in self._next_uses().items()}
            never = max(use.values(), default=0) + 1
            own = use.get(shard.xxh3_128, never) if ahead else -1
            latest = next(reversed(self._held), None)
            later = [
                (use.get(key, never), -read_s, key, size)
                for key, size, read_s in self._files()
                if use.get(key, never) > own and key not in (shard.xxh3_128, latest)
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
        """Remove a shard unless another process reads it. Where this one has it mapped, it keeps the mapping."""
        self._release(key)
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path(key).unlink(missing_ok=True)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)

    def _files(self) -> Iterator[tuple[str, int, float]]:
        """The shards that lie here: key, size in bytes, when last read."""
        for path in self._directory.glob("*.arrow"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield path.stem, stat.st_size, stat.st_mtime

    def _used(self) -> int:
        """The bytes of all files here, those on their way included."""
        used = 0
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):
                used += path.stat().st_size
        return used

    def _allowance(self) -> int:
        """The bytes that the cache may take."""
        if self._limit_bytes is not None:
            return self._limit_bytes
        disk = shutil.disk_usage(self._directory)
        return int(self._used() + disk.free - _FREE_SHARE * disk.total)

    @contextmanager
    def _disk_told(self) -> Iterator[None]:
        """Errors of this machine's disk as one of ours."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{error.filename or self._directory}: {error.strerror or error}; point FARANDOLE_CACHE_DIR at a"
                " directory of this machine that you may write to"
            ) from error


def _limit_bytes() -> int | None:
    named = os.environ.get("FARANDOLE_CACHE_GB")
    try:
        limit = float(named) if named else None
    except ValueError:
        limit = -1.0
    if limit is not None and not 0 <= limit < float("inf"):
        raise SpecError(f"FARANDOLE_CACHE_GB: {named!r} is not a number of gigabytes; write for example 50")
    return None if limit is None else int(limit * 1e9)


def _checksum(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        return xxhash.xxh3_128_hexdigest(memory)
