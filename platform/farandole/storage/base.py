"""Where a dataset lies: a local directory, or one behind the URI of an object store.

All that touches a dataset's files goes through the few methods of `Storage`. A file appears whole or not at all: it is
drafted in a local place, and then published under its name.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from farandole.spec import is_uri

Location = str | Path
"""A local directory, or the URI of a remote one."""


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
    """A directory. Names are relative to it."""

    @property
    def place(self) -> Location:
        """The directory: a path, or a URI."""

    def shown(self, name: str) -> str:
        """A file of the directory, as errors call it."""

    def create(self) -> None:
        """See to it that files can be put here."""

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            FileNotFoundError: There is none of this name.
        """

    def write(self, name: str, content: bytes) -> None:
        """Put a small file here; one of this name is replaced."""

    def draft(self, name: str) -> Path:
        """Where to write what is to become `name`: a local file that is not there yet."""

    def publish(self, draft: Path, name: str) -> None:
        """Give a finished draft its name; nothing is left where it was drafted."""

    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """A local file with the content of `name`, there as long as the block lasts.

        Raises:
            FileNotFoundError: There is none of this name.
        """

    def files(self, folders: Iterable[str]) -> list[StoredFile]:
        """The files in some folders of the directory (not in folders of those), sorted by name; `renew` shows in when
        they were changed."""

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""

    def renew(self, names: Iterable[str]) -> None:
        """Let files count as written now."""


def open_storage(place: Location) -> Storage:
    """The storage of a directory.

    Args:
        place: A path, or a URI (`s3://bucket/folder`, or any other that pyarrow knows).

    Raises:
        StorageRefused: The URI is not one that can be used.
    """
    if isinstance(place, Path) or not is_uri(place):
        return LocalStorage(Path(place))
    if urlsplit(place).scheme == "file":
        return LocalStorage(Path(unquote(urlsplit(place).path)))
    from farandole.storage.object_store import (
        ObjectStorage,  # object stores cost time to import that local data need not pay
    )

    return ObjectStorage(place)


def parse_location(text: str) -> Location:
    """A place as the job file or a command line writes it: a path where it is local."""
    return text if is_uri(text) else Path(text)


@dataclass(frozen=True)
class LocalStorage:
    """A directory of this machine. Drafts lie beside what they become, so that a rename publishes them."""

    directory: Path

    @property
    def place(self) -> Path:
        """The directory."""
        return self.directory

    def shown(self, name: str) -> str:
        """The file's path."""
        return str(self.directory / name)  # of the empty name: the directory

    def create(self) -> None:
        """Make the directory."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self.directory / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write the file beside its place, flush it, and rename it."""
        path = self.directory / name
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def draft(self, name: str) -> Path:
        """A `.tmp` file beside `name`; its folder is made."""
        path = self.directory / f"{name}-{uuid.uuid4().hex}.tmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, draft: Path, name: str) -> None:
        """Rename the draft."""
        os.replace(draft, self.directory / name)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """The file itself."""
        path = self.directory / name
        path.stat()
        yield path

    def files(self, folders: Iterable[str]) -> list[StoredFile]:
        """What lies in the folders now."""
        found = []
        for path in (path for folder in folders for path in (self.directory / folder).glob("*")):
            with suppress(FileNotFoundError):  # another process may be tidying up
                stat = path.stat()
                found.append(StoredFile(path.relative_to(self.directory).as_posix(), stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda file: file.name)

    def remove(self, name: str) -> None:
        """Unlink the file: whoever has it mapped keeps it."""
        (self.directory / name).unlink(missing_ok=True)

    def renew(self, names: Iterable[str]) -> None:
        """Set the files' time of change."""
        for name in names:
            with suppress(FileNotFoundError):
                os.utime(self.directory / name)
