"""Zip archives as sources: their members, unpacked into the cache under a name that changes with the archive."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import xxhash

from farandole.errors import DataError, PreparationError, explain_os_error
from farandole.process.atomic import atomic_directory
from farandole.storage import home

ARCHIVE_SUFFIX = ".zip"


def is_hidden(path: Path) -> bool:
    """Return whether Spark skips a file of this relative path."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.parts)


def cached_members(field_path: str, path: Path) -> list[Path]:
    """Return the members of an archive that has been unpacked before; any other file is returned itself.

    Args:
        field_path: The field of the job file that names it, for errors.
        path: The archive, or any other file.

    Raises:
        DataError: The unpacked archive has no members that Spark would read.
    """
    if path.suffix != ARCHIVE_SUFFIX:
        return [path]
    target = _cache_directory(path)
    return _members(field_path, path, target) if target.exists() else [path]


def unpack(field_path: str, path: Path) -> list[Path]:
    """Unpack an archive, unless the cache has its members already.

    Args:
        field_path: The field of the job file that names it, for errors.
        path: The archive, or any other file.

    Returns:
        The members, sorted; a file that is not an archive is returned itself.

    Raises:
        DataError: The archive is damaged, or has no members that Spark would read.
        PreparationError: There is no room for the members.
    """
    if path.suffix != ARCHIVE_SUFFIX:
        return [path]
    target = _cache_directory(path)
    if not target.exists():
        _extract(field_path, path, target)
    return _members(field_path, path, target)


def _extract(field_path: str, path: Path, target: Path) -> None:
    try:
        # Another process may be faster, with the same members.
        with zipfile.ZipFile(path) as archive, atomic_directory(target, exist_ok=True) as draft:
            members = [info for info in archive.infolist() if not info.is_dir()]
            archive.extractall(draft, [info for info in members if not info.filename.startswith("__MACOSX/")])
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{field_path}: {path}: is not a whole zip archive ({error}); download it again") from error
    except OSError as error:
        reason = explain_os_error(error, f"{target.parent}: unpacking {path.name}")
        raise PreparationError(f"{reason}, or set FARANDOLE_HOME to another directory") from error


def _cache_directory(path: Path) -> Path:
    stat = path.stat()
    key = xxhash.xxh3_64_hexdigest(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return home() / "cache" / "unpacked" / key


def _members(field_path: str, path: Path, directory: Path) -> list[Path]:
    files = (file for file in directory.rglob("*") if file.is_file())
    members = sorted(file for file in files if not is_hidden(file.relative_to(directory)))
    if not members:
        raise DataError(f"{field_path}: {path}: the archive holds no data files; put one into it")
    return members
