"""Source files behind a URI: which ones a path names, and copies of them on this machine.

Spark reads the copies. A file is fetched once for each change of it: its copy is known by URI, size and time of change.
The copies of one source lie in a tree of hard links with the same folders as in the store, from which Spark reads
partition columns.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import xxhash

from farandole.errors import DataError, PreparationError, StorageAccessError, closest_match
from farandole.process.locks import temporary_lock
from farandole.storage import StoredFile, home
from farandole.storage.object_store import ObjectStorage

_FILES_AT_ONCE = 4


@dataclass(frozen=True)
class ObjectStoreFiles:
    """What a URI names.

    Args:
        storage: The bucket.
        files: The files, their names relative to the bucket, sorted.
        base: The folder that was named, if it was one.
    """

    storage: ObjectStorage
    files: tuple[StoredFile, ...]
    base: str | None

    def facts(self, file: StoredFile) -> dict[str, Any]:
        """What tells whether a file changed: URI, size in bytes, time of change in ns."""
        return {
            "path": self.storage.display_path(file.name),
            "bytes": file.bytes,
            "mtime_ns": round(file.modified_s * 1e9),
        }

    @property
    def tree(self) -> Path:
        """Where the copies lie; another place when any of the files changes."""
        text = json.dumps([self.facts(file) for file in self.files])
        return home() / "cache" / "sources" / xxhash.xxh3_64_hexdigest(text.encode())

    def local(self, name: str) -> Path:
        """Where the copy of a file or folder lies."""
        return self.tree.joinpath(*PurePosixPath(urlsplit(self.storage.display_path(name)).path.lstrip("/")).parts)

    def fetch(self, tell: Callable[[int, int], None]) -> None:
        """Bring all files here that are not here yet.

        Args:
            tell: Is told the bytes fetched so far, and those of all files.

        Raises:
            DataError: A file vanishes, or changes all the time.
            StorageRefused: The store will not give a file.
            StorageFailed: The store does not answer, or the disk is full.
        """
        total, done = sum(file.bytes for file in self.files), 0
        with ThreadPoolExecutor(_FILES_AT_ONCE, "farandole-sources") as pool:
            for size in pool.map(self._fetch, self.files):
                done += size
                tell(done, total)

    def fetch_copy(self, path: Path) -> bool:
        """Bring the one file here whose copy has this path.

        Returns:
            Whether there is such a file.
        """
        wanted = next((file for file in self.files if self.local(file.name) == path), None)
        if wanted is not None:
            self._fetch(wanted)
        return wanted is not None

    def _fetch(self, file: StoredFile) -> int:
        facts = self.facts(file)
        kept = home() / "cache" / "sources" / "files" / xxhash.xxh3_128_hexdigest(json.dumps(facts).encode())
        link = self.local(file.name)
        try:
            for folder in (kept.parent, link.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with temporary_lock(kept.with_suffix(".lock")):
                if not kept.exists():
                    self._download(file, kept)
            with suppress(FileExistsError):
                os.link(kept, link)
        except OSError as error:
            raise PreparationError(
                f"{error.filename or kept}: {error.strerror or error} while {facts['path']} was fetched; set"
                " FARANDOLE_HOME to a directory that you may write to"
            ) from error
        return file.bytes

    def _download(self, file: StoredFile, kept: Path) -> None:
        shown = self.storage.display_path(file.name)
        temporary = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}.tmp")
        try:
            self.storage.download(file.name, temporary, file.bytes)
            if self.storage.stat(file.name) != file:
                raise DataError(f"{shown}: changed while it was fetched; prepare again when it is at rest")
            os.utime(temporary, ns=(round(file.modified_s * 1e9),) * 2)
            temporary.rename(kept)
        except FileNotFoundError:
            raise DataError(f"{shown}: vanished while it was fetched; prepare again when it is at rest") from None
        finally:
            temporary.unlink(missing_ok=True)


def find_in_object_store(place: str, uri: str, kind: str, hidden: Callable[[Path], bool]) -> ObjectStoreFiles:
    """The files that a URI names: one file, all below a folder, or those that match a pattern.

    Args:
        place: The field of the job file, for errors.
        uri: The URI.
        kind: The format of the files, for errors.
        hidden: Whether Spark would skip a file of this relative path.

    Raises:
        DataError: There are none, or the URI cannot be used.
        StorageRefused: The store will not list them.
        StorageFailed: The store does not answer.
    """
    parts = urlsplit(uri)
    root = f"{parts.scheme}://{parts.netloc}" + (f"?{parts.query}" if parts.query else "")
    try:
        storage = ObjectStorage(root)
    except StorageAccessError as error:
        raise DataError(f"{place}: {error}") from error
    name = unquote(parts.path).strip("/")
    single = storage.stat(name) if name else None
    if single is not None:
        if hidden(Path(PurePosixPath(name).name)):
            raise DataError(f"{place}: {uri}: Spark skips files whose names start with `_` or `.`; rename it")
        return ObjectStoreFiles(storage, (single,), None)
    if glob.has_magic(name):
        steps = PurePosixPath(name).parts
        fixed = next(number for number, step in enumerate(steps) if glob.has_magic(step))
        listed = storage.list_tree("/".join(steps[:fixed]))
        found = [file for file in listed if _matches(PurePosixPath(file.name).parts, steps)]
        found = [file for file in found if not hidden(Path(PurePosixPath(file.name).name))]
        if not found:
            raise DataError(f"{place}: {uri}: no file matches; mend the pattern")
        return ObjectStoreFiles(storage, tuple(found), None)
    listed = storage.list_tree(name)
    found = [file for file in listed if not hidden(Path(file.name.removeprefix(name).lstrip("/")))]
    if found:
        return ObjectStoreFiles(storage, tuple(found), name)
    if listed:
        raise DataError(f"{place}: {uri}: the directory holds no data files; put {kind} files into it")
    raise DataError(f"{place}: {uri}: there is no such file or directory; {_hint(storage, name)}")


def _hint(storage: ObjectStorage, name: str) -> str:
    storage.create()  # a bucket that is not there is told as such
    folder = str(PurePosixPath(name).parent)
    near = [PurePosixPath(file.name).name for file in storage.list_files(["" if folder == "." else folder])]
    close = closest_match(PurePosixPath(name).name, near)
    return (
        f"did you mean {storage.display_path(str(PurePosixPath(name).with_name(close)))}?" if close else "mend the path"
    )


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path fits a pattern, step by step; `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
