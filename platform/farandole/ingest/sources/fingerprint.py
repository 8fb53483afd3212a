"""Fingerprints of source files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
        """Return the entry of the manifest's `sources`."""
        return asdict(self)
