"""Source files in an object store, and their copies on this machine.

Spark reads the copies. A file is downloaded once for each change of it: its copy is named after its URI, size and time
of change. The copies of one source form a tree of hard links with the same folders as in the store, from which Spark
reads partition columns.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import xxhash

from farandole.errors import DataError, PreparationError, StorageAccessError, closest_match
from farandole.ingest.sources.archives import is_hidden
from farandole.ingest.sources.fingerprint import FileFingerprint
from farandole.process.atomic import atomic_file
from farandole.process.locks import temporary_lock
from farandole.storage import StoredFile, home
from farandole.storage.object_store import ObjectStorage

_FILES_AT_ONCE = 4


@dataclass(frozen=True)
class ObjectStoreFiles:
    """The files that a URI names.

    Args:
        storage: The bucket.
        files: The files, with names relative to the bucket, sorted.
        base: The folder that the URI names, if it names one.
    """

    storage: ObjectStorage
    files: tuple[StoredFile, ...]
    base: str | None

    def uri(self, file: StoredFile) -> str:
        """Return the URI of a file."""
        return self.storage.display_path(file.name)

    def fingerprint(self, source: str, file: StoredFile) -> FileFingerprint:
        """Return the facts by which a change of a file is noticed."""
        return FileFingerprint(source, self.uri(file), file.bytes, round(file.modified_s * 1e9))

    @cached_property
    def tree(self) -> Path:
        """The root directory of the copies, another one when any of the files changes."""
        facts = json.dumps([self._facts(file) for file in self.files])
        return home() / "cache" / "sources" / xxhash.xxh3_64_hexdigest(facts.encode())

    @property
    def local_paths(self) -> list[Path]:
        """The paths of all copies, sorted; a copy that has not been downloaded does not exist yet."""
        return sorted(self.local_path(file.name) for file in self.files)

    def local_path(self, name: str) -> Path:
        """Return the path of the copy of a file or folder."""
        root = urlsplit(self.storage.display_path("")).path.strip("/")
        return self.tree.joinpath(*PurePosixPath(root).parts, *PurePosixPath(name).parts)

    def fetch(self, on_progress: Callable[[int, int], None]) -> None:
        """Download all files that are not on this machine yet.

        Args:
            on_progress: Receives the bytes downloaded so far and the bytes of all files.

        Raises:
            DataError: A file vanishes, or changes all the time.
            StorageAccessError: The store denies access to a file.
            StorageError: The store does not answer, or the disk is full.
        """
        total, done = sum(file.bytes for file in self.files), 0
        with ThreadPoolExecutor(_FILES_AT_ONCE, "farandole-sources") as pool:
            for size in pool.map(self._fetch, self.files):
                done += size
                on_progress(done, total)

    def fetch_copy(self, path: Path) -> bool:
        """Download the one file whose copy has this path; return whether there is such a file."""
        wanted = next((file for file in self.files if self.local_path(file.name) == path), None)
        if wanted is not None:
            self._fetch(wanted)
        return wanted is not None

    def _fetch(self, file: StoredFile) -> int:
        facts = json.dumps(self._facts(file))
        kept = home() / "cache" / "sources" / "files" / xxhash.xxh3_128_hexdigest(facts.encode())
        link = self.local_path(file.name)
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
                f"{error.filename or kept}: {error.strerror or error} while {self.uri(file)} was fetched; set"
                " FARANDOLE_HOME to a directory that you may write to"
            ) from error
        return file.bytes

    def _facts(self, file: StoredFile) -> dict[str, Any]:
        return {"path": self.uri(file), "bytes": file.bytes, "mtime_ns": round(file.modified_s * 1e9)}

    def _download(self, file: StoredFile, kept: Path) -> None:
        shown = self.uri(file)
        try:
            with atomic_file(kept) as draft:
                self.storage.download(file.name, draft, file.bytes)
                if self.storage.stat(file.name) != file:
                    raise DataError(f"{shown}: changed while it was fetched; prepare again when nothing writes to it")
                os.utime(draft, ns=(round(file.modified_s * 1e9),) * 2)
        except FileNotFoundError:
            raise DataError(f"{shown}: vanished while it was fetched; prepare again when nothing changes it") from None


def find_in_object_store(field_path: str, uri: str, file_format: str) -> ObjectStoreFiles:
    """Find the files that a URI names: one file, all below a folder, or those that match a pattern.

    Args:
        field_path: The field of the job file, for errors.
        uri: The URI.
        file_format: The format of the files.

    Raises:
        DataError: There are no files, or the URI cannot be used.
        StorageAccessError: The store does not list them.
        StorageError: The store does not answer.
    """
    parts = urlsplit(uri)
    root = f"{parts.scheme}://{parts.netloc}" + (f"?{parts.query}" if parts.query else "")
    try:
        storage = ObjectStorage(root)
    except StorageAccessError as error:
        raise DataError(f"{field_path}: {error}") from error
    name = unquote(parts.path).strip("/")
    single = storage.stat(name) if name else None
    if single is not None:
        if is_hidden(Path(PurePosixPath(name).name)) and file_format == "parquet":
            raise DataError(f"{field_path}: {uri}: Spark skips files whose names start with `_` or `.`; rename it")
        return ObjectStoreFiles(storage, (single,), None)
    if glob.has_magic(name):
        steps = PurePosixPath(name).parts
        fixed = next(number for number, step in enumerate(steps) if glob.has_magic(step))
        listed = storage.list_tree("/".join(steps[:fixed]))
        found = [file for file in listed if _matches(PurePosixPath(file.name).parts, steps)]
        found = [file for file in found if not is_hidden(Path(PurePosixPath(file.name).name))]
        if not found:
            raise DataError(f"{field_path}: {uri}: no file matches; fix the pattern")
        _check_names(field_path, storage, found)
        base = None if file_format == "images" else "/".join(steps[:fixed])
        return ObjectStoreFiles(storage, tuple(found), base)
    listed = storage.list_tree(name)
    found = [file for file in listed if not is_hidden(Path(file.name.removeprefix(name).lstrip("/")))]
    if found:
        _check_names(field_path, storage, found)
        return ObjectStoreFiles(storage, tuple(found), name)
    if listed:
        raise DataError(f"{field_path}: {uri}: the directory holds no data files; put {file_format} files into it")
    raise DataError(f"{field_path}: {uri}: there is no such file or directory; {_hint(storage, name)}")


def _check_names(field_path: str, storage: ObjectStorage, files: list[StoredFile]) -> None:
    """Check that the names of objects are possible on this machine, where two of them must not be the same file.

    Raises:
        DataError: A name has an empty step, or one that leads to another folder.
    """
    for file in files:
        if any(step in ("", ".", "..") for step in file.name.split("/")):
            raise DataError(
                f"{field_path}: {storage.display_path(file.name)}: a step of the name is empty, `.` or `..`, which no"
                " file on this machine can have; rename the object"
            )


def _hint(storage: ObjectStorage, name: str) -> str:
    storage.create()  # raises a clearer error if the bucket does not exist
    folder = str(PurePosixPath(name).parent)
    near = [PurePosixPath(file.name).name for file in storage.list_files(["" if folder == "." else folder])]
    close = closest_match(PurePosixPath(name).name, near)
    return (
        f"did you mean {storage.display_path(str(PurePosixPath(name).with_name(close)))}?" if close else "fix the path"
    )


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Match a path with a pattern, step by step; `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
