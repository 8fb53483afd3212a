"""Fingerprints and digests of source files."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from farandole.errors import DataError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileFingerprint:
    """Facts by which a changed source file is noticed.

    Args:
        source: The source's name in the job file.
        path: The local path or the URI.
        bytes: The size in bytes.
        mtime_ns: The time of the last change, in ns since 1970.
    """

    source: str
    path: str
    bytes: int
    mtime_ns: int

    def to_dict(self) -> dict[str, Any]:
        """Return the facts of the entry in the manifest's `sources`."""
        return asdict(self)


def file_digest(path: Path) -> str:
    """Return the xxh3-128 of a file's content, at several GB/s where the file was read just before.

    Raises:
        DataError: The file is gone or cannot be read.
    """
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size  # there may be a million small files
            chunk = memoryview(bytearray(max(1, min(size, _CHUNK_BYTES))))
            while count := file.readinto(chunk):
                digest.update(chunk[:count])
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); write the file again") from error
    return digest.hexdigest()
