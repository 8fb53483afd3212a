"""The protocol of a directory of files.

A file appears whole or not at all: it is drafted in a local file, and then published under its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from farandole.storage.location import Location


@dataclass(frozen=True)
class StoredFile:
    """A file of a directory.

    Args:
        name: Relative to the directory, with `/` between its parts.
        bytes: Its size.
        modified_s: When it was written, in seconds since 1970.
    """

    name: str
    bytes: int
    modified_s: float


class Storage(Protocol):
    """A directory. Names of files are relative to it."""

    @property
    def location(self) -> Location:
        """The directory's path or URI."""

    def display_path(self, name: str) -> str:
        """Return the path or URI of a file for messages, without secrets; for an empty name, the directory's."""

    def create(self) -> None:
        """Create the directory, or check that it accepts files."""

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write a small file; an existing one of this name is replaced."""

    def draft(self, name: str) -> Path:
        """Return a local path for the draft of a file, unused so far."""

    def publish(self, draft: Path, name: str) -> None:
        """Give a finished draft its name; the draft is gone afterwards."""

    def as_local_file(self, name: str) -> AbstractContextManager[Path]:
        """Provide a local file with the content of a file for the length of the block.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def list_files(self, folders: Iterable[str]) -> list[StoredFile]:
        """Return the files in some folders, not below them, sorted by name; `touch` shows in `modified_s`."""

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""

    def touch(self, names: Iterable[str]) -> None:
        """Make files count as written now; some may be gone already."""
