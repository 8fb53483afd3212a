"""Which files a source names, without Spark: so that a missing file is told before anything starts."""

from __future__ import annotations

import codecs
import csv
import glob
import importlib.util
import io
import os
import re
import shutil
import uuid
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from farandole.errors import DataError, PreparationError, closest_match
from farandole.events import EventHandler, Progress, format_count, ignore_event
from farandole.ingest.readers.byte_ranges import mismatched_bom, open_decompressed
from farandole.spec import CsvSource, ParquetSource, Source
from farandole.storage import home, is_uri

if TYPE_CHECKING:
    from farandole.ingest.sources.object_store import ObjectStoreFiles

_PACKAGE = "package://"
_HEADER_BYTES = 1 << 20
csv.field_size_limit(1 << 30)  # of a name in a header; Python's own limit is 128 KiB


@dataclass(frozen=True)
class SourceFiles:
    """The files of one source.

    Args:
        name: The source's name in the job file.
        paths: Local files, sorted.
        base: The directory that was named, if it was one: partition columns are read off paths below it.
        remote: What they are copies of, if they are: the files of an object store.
    """

    name: str
    paths: tuple[Path, ...]
    base: Path | None = None
    remote: ObjectStoreFiles | None = None

    @property
    def fingerprint(self) -> list[dict[str, Any]]:
        """What tells whether the files changed: path or URI, size in bytes, time of change in ns."""
        if self.remote is not None:
            return [{"source": self.name, **self.remote.facts(file)} for file in self.remote.files]
        return [
            {"source": self.name, "path": str(path), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
            for path, stat in ((path, path.stat()) for path in self.paths)
        ]


def fingerprints(files: dict[str, SourceFiles]) -> list[dict[str, Any]]:
    """What tells whether any file of any source changed, by the names of the sources."""
    return [entry for name in sorted(files) for entry in files[name].fingerprint]


def find_files(name: str, source: Source, *, unpack: bool = True, on_event: EventHandler = ignore_event) -> SourceFiles:
    """The files that a source names. Those of an object store are fetched, and zip archives unpacked, once each, into
    the cache.

    Args:
        name: The source's name in the job file.
        source: The source.
        unpack: False: write nothing; an archive that is not in the cache yet stands for its members, and of remote
            files only those have paths that are in the cache already.
        on_event: Is told of what is fetched.

    Raises:
        DataError: There are none, or they cannot be read.
        StorageRefused: An object store will not give them.
        StorageFailed: An object store does not answer, or the disk is full.
    """
    place = f"data.sources.{name}.path"
    if is_uri(source.path) and not source.path.startswith(_PACKAGE):
        return _remote_files(name, place, source, unpack, on_event)
    path = _package_file(place, source.path) if source.path.startswith(_PACKAGE) else Path(source.path)
    if glob.has_magic(str(path)) and not path.exists():
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]
        files, base = [file for file in found if file.is_file() and not _hidden(Path(file.name))], None
        if not files:
            raise DataError(f"{place}: {path}: no file matches; mend the pattern")
    elif path.is_dir():
        files, base = [file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path))], path
        if not files:
            raise DataError(f"{place}: {path}: the directory holds no data files; put {source.format} files into it")
    elif path.is_file():
        files, base = [path], None
    else:
        close = (
            closest_match(path.name, [entry.name for entry in path.parent.glob("*")]) if path.parent.is_dir() else None
        )
        hint = f"did you mean {path.with_name(close)}?" if close else "mend the path"
        raise DataError(f"{place}: {path}: there is no such file or directory; {hint}")
    for file in files:
        if not os.access(file, os.R_OK):
            raise DataError(f"{place}: {file}: may not be read by this user; change its permissions")
        if _hidden(Path(file.name)):
            raise DataError(f"{place}: {file}: Spark skips files whose names start with `_` or `.`; rename it")
    archive = next((file for file in sorted(files) if file.suffix == ".zip"), None)
    if base is not None and archive is not None and source.format in ("images", "parquet"):
        raise DataError(
            f"{place}: {archive}: an archive in a folder whose own folders mean something (labels, partitions); unpack"
            " it there, or name the archive itself"
        )
    unpacked = [member for file in sorted(files) for member in _unpacked(place, file, unpack)]
    return SourceFiles(name, tuple(unpacked), base)


def ensure_local(name: str, source: Source, path: Path) -> None:
    """See to it that this machine has a file of a source under the very path that another one found it by. A file of
    an object store is fetched, an archive unpacked; any other is where it is, or not.

    Args:
        name: The source's name.
        source: The source.
        path: The file.

    Raises:
        DataError: The source is not what it was.
        StorageRefused: An object store will not give it.
        StorageFailed: An object store does not answer, or the disk is full.
    """
    if path.exists():
        return
    if is_uri(source.path) and not source.path.startswith(_PACKAGE):
        from farandole.ingest.sources.object_store import find_in_object_store

        if find_in_object_store(f"data.sources.{name}.path", source.path, source.format, _hidden).fetch_copy(path):
            return
    find_files(name, source)


def _remote_files(name: str, place: str, source: Source, fetch: bool, on_event: EventHandler) -> SourceFiles:
    from farandole.ingest.sources.object_store import find_in_object_store  # only remote sources need it

    remote = find_in_object_store(place, source.path, source.format, _hidden)
    if fetch:
        text = f"fetching {format_count(len(remote.files), 'file')} of {name}"
        remote.fetch(lambda done, total: on_event(Progress("prepare", done // 10**6, total // 10**6, "MB", text)))
    here = [path for path in map(remote.local, (file.name for file in remote.files)) if path.exists()]
    unpacked = [member for path in sorted(here) for member in _unpacked(place, path, fetch)]
    base = None if remote.base is None else remote.local(remote.base)
    return SourceFiles(name, tuple(unpacked), base, remote)


def check_header(name: str, source: CsvSource, files: SourceFiles) -> list[str]:
    """The columns of CSV files, from their first lines.

    Fields are read by position: a file with other columns, or in another order, would give wrong values silently.

    Raises:
        DataError: A file is empty or not in its encoding; its header differs from the first file's, or lacks a
            declared column.
    """
    if not source.header:
        if source.columns is None:
            raise DataError(f"data.sources.{name}: without a header, `columns` must name the columns in file order")
        return list(source.columns)
    expected: list[str] = []
    for path in files.paths:
        header = _first_row(name, path, source)
        if header is None:
            raise DataError(f"{path}: is empty; data.sources.{name} needs a first line with the column names")
        if any(sign in column for column in header for sign in "\ufffd\0"):
            raise DataError(
                f"{path}: the header is not {source.encoding.upper()} text ({_listed(header)}); save the file as UTF-8,"
                f" or set `encoding` of data.sources.{name}"
            )
        if not source.multiline and any(sign in column for column in header for sign in "\r\n"):
            raise DataError(
                f"{path}: the header has a line break in a quoted name, or a quote that is not closed; mend the first"
                f" line, or set `multiline: true` in data.sources.{name}"
            )
        repeated = sorted(column for column, count in Counter(header).items() if count > 1 and column.strip())
        if repeated or not all(column.strip() for column in header):
            what = f"names {', '.join(repeated)} twice" if repeated else "has a column without a name"
            raise DataError(f"{path}: the header {what}; mend the first line")
        if expected and header != expected:
            raise DataError(
                f"{path}: the header is {_listed(header)}, that of {files.paths[0].name} is {_listed(expected)};"
                " all files of a source need the same columns in the same order"
            )
        expected, names = header, set(header)
        for column in source.columns or {}:
            if column not in names:
                close = closest_match(column, header)
                hint = f"did you mean {close}?" if close else f"the header has {_listed(header)}"
                raise DataError(f"{path}: the header has no column {column}, declared in data.sources.{name}; {hint}")
    return expected


def check_parquet(name: str, source: ParquetSource, files: SourceFiles) -> None:
    """Look into the footers of Parquet files.

    Spark takes the columns of one file for those of all: what another file lacks would be missing values silently.

    Raises:
        DataError: A file cannot be read, its columns differ from the first file's, or a declared column is missing.
    """
    expected: dict[str, str] = {}
    for path in files.paths:
        try:
            found = _parquet_types(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: is not a whole Parquet file ({error}); write it again") from error
        first = files.paths[0].name
        if expected and found.keys() != expected.keys():
            raise DataError(
                f"{path}: the columns are {_listed(list(found))}, those of {first} are {_listed(list(expected))};"
                " all files of a source need the same columns"
            )
        for column in source.columns or found:
            if expected.get(column, found.get(column)) != found.get(column):
                raise DataError(
                    f"{path}: column {column} is {found[column]}, in {first} it is {expected[column]}; all files of a"
                    " source need the same types: write the file again"
                )
        expected = expected or found


def _parquet_types(path: Path) -> dict[str, str]:
    """Column to its type, in the words of Parquet; what writers differ in without effect (nullability) is left out."""
    schema = pq.ParquetFile(path).schema
    types: dict[str, str] = {}
    for column in (schema.column(index) for index in range(len(schema))):
        top, _, rest = column.path.partition(".")
        kind = f"{column.physical_type} {column.logical_type}".removesuffix(" None")
        types[top] = f"{types[top]}, {rest} {kind}" if top in types else f"{rest} {kind}".strip()
    return types


def _first_row(name: str, path: Path, source: CsvSource) -> list[str] | None:
    """The fields of the first line that is not empty, None if there is none."""
    try:
        mark = mismatched_bom(path, source.encoding)
        if mark:
            raise DataError(
                f"{path}: begins with the byte order mark of {mark}, yet is read as {source.encoding}; set"
                f" `encoding: {mark}` in data.sources.{name}"
            )
        with open_decompressed(path) as stream:
            text = _start(stream, source.encoding)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=source.separator, quotechar=source.quote)
        return next((row for row in rows if row), None)
    except (OSError, EOFError, pa.ArrowException, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _start(stream: Any, encoding: str) -> str:
    """The text up to a line end at least, without a byte order mark."""
    decoder, text = codecs.getincrementaldecoder(encoding)("replace"), ""
    while not re.search(r"[^\r\n\ufeff][\r\n]", text) and (data := stream.read(_HEADER_BYTES)):
        text += decoder.decode(data)
    return text.removeprefix("\ufeff")


def _package_file(place: str, uri: str) -> Path:
    package, _, rest = uri.removeprefix(_PACKAGE).partition("/")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise DataError(f"{place}: {uri}: the Python package {package} is not installed; `pip install {package}`")
    return Path(found.submodule_search_locations[0]) / rest


def _unpacked(place: str, path: Path, allowed: bool) -> list[Path]:
    """The members of a zip archive, unpacked into the cache under a name that changes with the archive."""
    if path.suffix != ".zip":
        return [path]
    stat = path.stat()
    key = xxhash.xxh3_64_hexdigest(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    target = home() / "cache" / "unpacked" / key
    if not target.exists():
        if not allowed:
            return [path]
        temporary = target.with_name(f"{key}.{uuid.uuid4().hex}.tmp")
        temporary.mkdir(parents=True)
        try:
            with zipfile.ZipFile(path) as archive:
                members = [info for info in archive.infolist() if not info.is_dir()]
                archive.extractall(temporary, [info for info in members if not info.filename.startswith("__MACOSX/")])
            # The same archive gives the same times of change, wherever and whenever it is unpacked.
            for member in (file for file in temporary.rglob("*") if file.is_file()):
                os.utime(member, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
            temporary.rename(target)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"{place}: {path}: is not a whole zip archive ({error}); fetch it again") from error
        except OSError as error:
            if not target.exists():  # another process may have been faster
                raise PreparationError(
                    f"{target.parent}: {error.strerror or error} while {path.name} was unpacked; free some space, or"
                    " set FARANDOLE_HOME"
                ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    found = sorted(file for file in target.rglob("*") if file.is_file() and not _hidden(file.relative_to(target)))
    if not found:
        raise DataError(f"{place}: {path}: the archive holds no data files; put one into it")
    return found


def _hidden(path: Path) -> bool:
    """Whether Spark would skip the file."""
    return any(part.startswith((".", "_")) for part in path.parts)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
