"""Files that a source names, found without Spark, so that a missing file is reported before anything starts.

`find_files` only looks; `SourceFiles.fetch` downloads and unpacks what is not on this machine yet.
"""

from __future__ import annotations

import glob
import importlib.util
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from farandole.errors import DataError, closest_match
from farandole.events import EventHandler, Progress, format_count, ignore_event
from farandole.ingest.sources.archives import ARCHIVE_SUFFIX, cached_members, is_hidden, unpack
from farandole.ingest.sources.fingerprint import FileFingerprint, file_digest
from farandole.spec import Source
from farandole.storage import is_uri

if TYPE_CHECKING:
    from farandole.ingest.sources.object_store import ObjectStoreFiles

_PACKAGE = "package://"
_DIGEST_THREADS = 8


@dataclass(frozen=True)
class SourceFiles:
    """The files of one source.

    Args:
        name: The source's name in the job file.
        paths: The local files to read, sorted: archives are replaced by their members, remote files by their copies.
            What is not unpacked stands for its members and what is not copied is missing, until `fetch`.
        base: The directory that the source names, if it names one, or the one before the first `*` of a pattern:
            columns are read off the names of the directories below it.
        remote: The remote files, if the source is in an object store.
        named: The local files that the source names, where `paths` may hold members of archives instead.
    """

    name: str
    paths: tuple[Path, ...]
    base: Path | None = None
    remote: ObjectStoreFiles | None = None
    named: tuple[Path, ...] = ()

    @property
    def fingerprint(self) -> tuple[FileFingerprint, ...]:
        """The facts of all files that the source names, in order; an archive counts as one file.

        Raises:
            OSError: A file is gone.
        """
        if self.remote is not None:
            return tuple(self.remote.fingerprint(self.name, file) for file in self.remote.files)
        facts = ((path, path.stat()) for path in self.named or self.paths)
        return tuple(FileFingerprint(self.name, str(path), stat.st_size, stat.st_mtime_ns) for path, stat in facts)

    def digests(self) -> tuple[str, ...]:
        """Return the xxh3-128 of the content of each file that `fingerprint` describes, in its order, after `fetch`.

        Raises:
            DataError: A file is gone or cannot be read.
        """
        remote = self.remote
        paths = self.named or self.paths if remote is None else [remote.local_path(each.name) for each in remote.files]
        # Reading and hashing hold no lock of the interpreter, and network file systems serve several files at once.
        with ThreadPoolExecutor(min(_DIGEST_THREADS, len(paths) or 1)) as threads:
            return tuple(threads.map(file_digest, paths))

    def fetch(self, on_event: EventHandler = ignore_event) -> SourceFiles:
        """Copy remote files and unpack archives into the cache, each once for every change of it.

        Args:
            on_event: Receives the progress of downloads.

        Returns:
            The same source, all of whose files can be read on this machine.

        Raises:
            DataError: A file vanished, changes all the time, or is not a whole archive.
            StorageAccessError: The object store denies access.
            StorageError: The object store does not answer, or the disk is full.
        """
        named: Sequence[Path] = self.named or self.paths
        if self.remote is not None:
            text = f"fetching {format_count(len(self.remote.files), 'file')} of {self.name}"
            self.remote.fetch(
                lambda done, total: on_event(Progress("prepare", done // 10**6, total // 10**6, "MB", text))
            )
            named = self.remote.local_paths
        field_path = _field_path(self.name)
        return replace(self, paths=tuple(member for path in named for member in unpack(field_path, path)))


def fingerprints(files: Mapping[str, SourceFiles]) -> tuple[FileFingerprint, ...]:
    """Return the facts of all files of all sources, ordered by the sources' names."""
    return tuple(entry for name in sorted(files) for entry in files[name].fingerprint)


def find_files(name: str, source: Source) -> SourceFiles:
    """Find the files that a source names; nothing is written, downloaded or unpacked.

    Args:
        name: The source's name in the job file.
        source: The source.

    Raises:
        DataError: There are no files, or they cannot be read.
        StorageAccessError: The object store does not list them.
        StorageError: The object store does not answer.
    """
    field_path = _field_path(name)
    if _is_remote(source):
        return _find_remote_files(name, source)
    path = _package_file(field_path, source.path) if source.path.startswith(_PACKAGE) else Path(source.path)
    files, base = _list_files(field_path, path, source.format)
    for file in files:
        if not os.access(file, os.R_OK):
            raise DataError(f"{field_path}: {file}: this user may not read it; change its permissions")
        if not _is_text(str(file)):
            shown = str(file).encode(errors="replace").decode()
            raise DataError(f"{field_path}: {shown}: the file's name is not UTF-8; rename it")
        if is_hidden(Path(file.name)) and source.format == "parquet":
            raise DataError(f"{field_path}: {file}: Spark skips files whose names start with `_` or `.`; rename it")
    archive = next((file for file in files if file.suffix == ARCHIVE_SUFFIX), None)
    if base is not None and archive is not None and _has_meaning(source.format, archive.relative_to(base)):
        raise DataError(
            f"{field_path}: {archive}: is an archive in a folder whose own folders have a meaning (labels, columns);"
            " unpack it there, or name the archive itself"
        )
    return SourceFiles(name, _readable_now(field_path, files), base, named=tuple(files))


def ensure_local(name: str, source: Source, path: Path) -> None:
    """Make a source's file available on this machine under the path that another machine found it by.

    A file of an object store is downloaded and an archive unpacked; any other file is where it is, or is missing.

    Args:
        name: The source's name.
        source: The source.
        path: The file.

    Raises:
        DataError: The source has changed since.
        StorageAccessError: The object store denies access.
        StorageError: The object store does not answer, or the disk is full.
    """
    if path.exists():
        return
    files = find_files(name, source)
    if files.remote is None or not files.remote.fetch_copy(path):
        files.fetch()


def _list_files(field_path: str, path: Path, file_format: str) -> tuple[list[Path], Path | None]:
    """Return the files that a local path names, sorted, and the directory whose own directories may name columns."""
    if glob.has_magic(str(path)) and not path.exists():
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]
        files = [file for file in found if file.is_file() and not is_hidden(Path(file.name))]
        if not files:
            raise DataError(f"{field_path}: {path}: no file matches; fix the pattern")
        return sorted(files), None if file_format == "images" else fixed_part(path)
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and not is_hidden(file.relative_to(path))]
        if not files:
            raise DataError(f"{field_path}: {path}: the directory holds no data files; put {file_format} files into it")
        return sorted(files), path
    if path.is_file():
        return [path], None
    siblings = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
    close = closest_match(path.name, siblings)
    hint = f"did you mean {path.with_name(close)}?" if close else "fix the path"
    raise DataError(f"{field_path}: {path}: there is no such file or directory; {hint}")


def fixed_part(pattern: Path) -> Path:
    """Return the part of a pattern before the first step with a `*` or another sign."""
    steps = pattern.parts
    return Path(*steps[: next(number for number, step in enumerate(steps) if glob.has_magic(step))])


def _has_meaning(file_format: str, path: Path) -> bool:
    """Return whether the names of a file's directories have a meaning: labels of images, or columns."""
    return file_format == "images" or any("=" in part for part in path.parts[:-1])


def _find_remote_files(name: str, source: Source) -> SourceFiles:
    from farandole.ingest.sources.object_store import find_in_object_store  # object stores take long to import

    field_path = _field_path(name)
    remote = find_in_object_store(field_path, source.path, source.format)
    copied = [path for path in remote.local_paths if path.exists()]
    base = None if remote.base is None else remote.local_path(remote.base)
    return SourceFiles(name, _readable_now(field_path, copied), base, remote)


def _readable_now(field_path: str, files: list[Path]) -> tuple[Path, ...]:
    """Replace the archives that have been unpacked before by their members."""
    return tuple(member for file in files for member in cached_members(field_path, file))


def _is_text(path: str) -> bool:
    """Return whether a path is text, in which no Python stands in for bytes that are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _package_file(field_path: str, uri: str) -> Path:
    package, _, rest = uri.removeprefix(_PACKAGE).partition("/")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise DataError(f"{field_path}: {uri}: the Python package {package} is not installed; `pip install {package}`")
    return Path(found.submodule_search_locations[0]) / rest


def _is_remote(source: Source) -> bool:
    return is_uri(source.path) and not source.path.startswith(_PACKAGE)


def _field_path(name: str) -> str:
    return f"data.sources.{name}.path"
