"""Directories of this machine."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from farandole.process.atomic import publish, write_atomic
from farandole.storage.base import StoredFile


@dataclass(frozen=True)
class LocalStorage:
    """A directory of this machine. Drafts are beside the files that they become, so that a rename publishes them."""

    directory: Path

    @property
    def location(self) -> Path:
        """The directory."""
        return self.directory

    def display_path(self, name: str) -> str:
        """Return the file's path."""
        return str(self.directory / name)

    def create(self) -> None:
        """Create the directory."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return (self.directory / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Replace a file durably; every user may read it."""
        write_atomic(self.directory / name, content, durable=True, mode=0o644)

    def draft(self, name: str) -> Path:
        """Return a `.tmp` path beside `name`; its folder is created."""
        path = self.directory / f"{name}-{uuid.uuid4().hex}.tmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, draft: Path, name: str) -> None:
        """Rename the draft."""
        publish(draft, self.directory / name)

    @contextmanager
    def as_local_file(self, name: str) -> Iterator[Path]:
        """Provide the file itself."""
        path = self.directory / name
        path.stat()
        yield path

    def list_files(self, folders: Iterable[str]) -> list[StoredFile]:
        """Return the files in some folders, sorted by name."""
        found = []
        for path in (path for folder in folders for path in (self.directory / folder).glob("*")):
            with suppress(FileNotFoundError):  # another process may be removing files
                stat = path.stat()
                found.append(StoredFile(path.relative_to(self.directory).as_posix(), stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda file: file.name)

    def remove(self, name: str) -> None:
        """Unlink a file; whoever has it mapped keeps it."""
        (self.directory / name).unlink(missing_ok=True)

    def touch(self, names: Iterable[str]) -> None:
        """Set the modification time of files to now."""
        for name in names:
            with suppress(FileNotFoundError):
                os.utime(self.directory / name)
