"""The manifest of a bundle: size and SHA-256 of every file. It is written last, and its own SHA-256 is the digest."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from farandole.errors import BundleError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
_CHUNK_BYTES = 1 << 20
_REMEDY = "export the model again, or copy the whole directory again"


def write_manifest(folder: Path, name: str) -> None:
    """Write the manifest of the files in a folder; a signature of an earlier manifest is removed.

    Args:
        folder: The folder with all other files of the bundle.
        name: Name of the model.
    """
    (folder / SIGNATURE).unlink(missing_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    files = {
        path: {"bytes": (folder / path).stat().st_size, "sha256": _sha256(folder / path)} for path in _list(folder)
    }
    document = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def digest_of(content: bytes) -> str:
    """Return the digest of a bundle, given the bytes of its manifest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_manifest(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the manifest of a bundle, as bytes and as a document.

    Raises:
        BundleError: There is no manifest, it cannot be read, or it is of another format version.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"{folder}: has no {MANIFEST}, so it is not a bundle; name a directory that `farandole export` wrote"
        ) from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); correct the permissions") from error
    try:
        document = json.loads(content)
        version = document["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path}: is truncated or not the manifest of a bundle; {_REMEDY}") from error
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: has the format version {version!r}, and this version of Farandole reads {FORMAT_VERSION}; export"
            " the model again"
        )
    if not _is_complete(document):
        raise BundleError(f"{path}: is not a manifest of format version {FORMAT_VERSION}; {_REMEDY}")
    return content, document


def check_files(folder: Path, document: dict[str, Any]) -> None:
    """Compare every file of a bundle with its manifest.

    Raises:
        BundleError: A file is missing, was added, or differs in size or digest.
    """
    listed: dict[str, dict[str, Any]] = document["files"]
    found = _list(folder)
    missing, added = sorted(set(listed) - set(found)), sorted(set(found) - set(listed))
    if missing:
        raise BundleError(f"{folder}: {missing[0]} is missing; {_REMEDY}")
    if added:
        raise BundleError(f"{folder}: {added[0]} is not listed in {MANIFEST}; remove it, or {_REMEDY}")
    for path, entry in listed.items():
        file = folder / path
        if file.is_symlink() or file.stat().st_size != entry["bytes"] or _sha256(file) != entry["sha256"]:
            raise BundleError(f"{file}: was changed: it does not match its digest in {MANIFEST}; {_REMEDY}")


def _list(folder: Path) -> list[str]:
    """Return the relative paths of all files, without the manifest and its signature, sorted."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(path for path in paths if path not in (MANIFEST, SIGNATURE))


def _is_complete(document: dict[str, Any]) -> bool:
    files = document.get("files")
    return (
        isinstance(document.get("name"), str)
        and isinstance(files, dict)
        and all(
            isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
            for entry in files.values()
        )
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
