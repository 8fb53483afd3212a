"""Storage of checkpoints: directories of this machine, or prefixes of an object store.

A directory is written under a hidden name, flushed and renamed. An object store cannot rename, so its objects get their
names at once; `meta.json` marks a checkpoint as complete and is written last, and prefixes without it are not listed.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from farandole.process.atomic import atomic_directory, draft_path
from farandole.storage import LocalStorage, Location, open_storage
from farandole.training.checkpoint.format import (
    META_FILE,
    STATE_FILE,
    DamagedCheckpointError,
    decode_meta,
    encode_meta,
    read_state,
    write_meta,
    write_state,
)

if TYPE_CHECKING:
    from farandole.storage.object_store import ObjectStorage

_NAME = re.compile(r"step-(?P<step>\d{9,})(?:-(?P<number>\d+))?")
_T = TypeVar("_T")


class CheckpointBackend(Protocol):
    """Checkpoints by name."""

    def display_path(self, name: str) -> str:
        """Return a checkpoint's location for messages; for the empty name, that of all checkpoints."""

    def names(self) -> list[str]:
        """List all checkpoints, newest first."""

    def meta(self, name: str) -> dict[str, Any]:
        """Read the metadata of a checkpoint.

        Raises:
            DamagedCheckpointError: It does not match what was written.
        """

    def state(self, name: str, meta: dict[str, Any]) -> dict[str, Any]:
        """Read the state of a checkpoint.

        Raises:
            DamagedCheckpointError: It does not match what was written.
        """

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Write a checkpoint, which appears complete or not at all; returns its name."""

    def remove(self, name: str) -> None:
        """Remove a checkpoint."""

    def clean_up(self) -> None:
        """Remove incomplete checkpoints of a writer that was killed. No other process may be writing."""


def open_backend(location: Location) -> CheckpointBackend:
    """Return the backend for a directory or URI.

    Raises:
        StorageAccessError: The URI cannot be used.
    """
    storage = open_storage(location)
    if isinstance(storage, LocalStorage):
        return DirectoryBackend(storage.directory)
    return ObjectStoreBackend(cast("ObjectStorage", storage))


def read_checkpoint(location: Location, name: str | None = None) -> dict[str, Any]:
    """Read the state of a checkpoint, for inspection.

    Args:
        location: Directory or URI of the checkpoints.
        name: Name of the checkpoint. Default: the newest.

    Raises:
        FileNotFoundError: There is no checkpoint.
        DamagedCheckpointError: It does not match what was written.
    """
    backend = open_backend(location)
    names = [name] if name else backend.names()
    if not names:
        raise FileNotFoundError(f"{backend.display_path('')}: contains no checkpoint")
    return backend.state(names[0], backend.meta(names[0]))


class DirectoryBackend:
    """Checkpoints as directories of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def display_path(self, name: str) -> str:
        """Return the path."""
        return str(self._directory / name)

    def names(self) -> list[str]:
        """List the directories that are named like checkpoints."""
        if not self._directory.is_dir():
            return []
        return sort_newest_first([path.name for path in self._directory.iterdir()])

    def meta(self, name: str) -> dict[str, Any]:
        """Read `meta.json`."""
        return decode_meta(_read((self._directory / name / META_FILE).read_bytes))

    def state(self, name: str, meta: dict[str, Any]) -> dict[str, Any]:
        """Read `state.pt`."""
        path = self._directory / name / STATE_FILE
        return _read(lambda: read_state(path, meta["files"][STATE_FILE]))

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Write both files to a hidden directory, flush it, and rename it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        while True:
            # An existing directory is never replaced: between its removal and the rename there would be none.
            name = unused_name(meta["step"], {path.name for path in self._directory.iterdir()})
            try:
                with atomic_directory(self._directory / name, durable=True) as draft:
                    described = write_state(draft / STATE_FILE, state)
                    write_meta(draft / META_FILE, {**meta, "files": {STATE_FILE: described}})
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                continue  # another training that shares the directory has taken the name meanwhile
            return name

    def remove(self, name: str) -> None:
        """Hide the directory first, so that no reader sees half of it."""
        hidden = draft_path(self._directory / name)
        (self._directory / name).rename(hidden)
        shutil.rmtree(hidden)

    def clean_up(self) -> None:
        """Remove hidden directories."""
        for path in self._directory.glob(".step-*.tmp"):
            shutil.rmtree(path)


class ObjectStoreBackend:
    """Checkpoints as prefixes of an object store, each marked as complete by its last object."""

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage

    def display_path(self, name: str) -> str:
        """Return the URI, without options."""
        return self._storage.display_path(name)

    def names(self) -> list[str]:
        """List the prefixes that are marked as complete."""
        return sort_newest_first([name for name, files in self._prefixes().items() if META_FILE in files])

    def meta(self, name: str) -> dict[str, Any]:
        """Read `meta.json`."""
        return decode_meta(_read(lambda: self._storage.read(f"{name}/{META_FILE}")))

    def state(self, name: str, meta: dict[str, Any]) -> dict[str, Any]:
        """Read `state.pt` from a local copy."""

        def read() -> dict[str, Any]:
            with self._storage.as_local_file(f"{name}/{STATE_FILE}") as path:
                return read_state(path, meta["files"][STATE_FILE])

        return _read(read)

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Write the state to a local file, upload it, and then the metadata."""
        name = unused_name(meta["step"], set(self._prefixes()))
        draft = self._storage.draft(STATE_FILE)
        try:
            described = write_state(draft, state)
            self._storage.publish(draft, f"{name}/{STATE_FILE}")
        finally:
            draft.unlink(missing_ok=True)
        self._storage.write(f"{name}/{META_FILE}", encode_meta({**meta, "files": {STATE_FILE: described}}))
        return name

    def remove(self, name: str) -> None:
        """Remove the metadata first: from then on the checkpoint is not listed."""
        for file in (META_FILE, STATE_FILE):
            self._storage.remove(f"{name}/{file}")

    def clean_up(self) -> None:
        """Remove prefixes without metadata. Also checks that the bucket is accessible before hours are spent."""
        self._storage.create()
        for name, files in self._prefixes().items():
            if META_FILE not in files and sort_newest_first([name]):
                self.remove(name)

    def _prefixes(self) -> dict[str, set[str]]:
        """Return the names of the files by prefix."""
        found: dict[str, set[str]] = {}
        for file in self._storage.list_tree(""):
            name, _, rest = file.name.partition("/")
            found.setdefault(name, set()).add(rest)
        return found


def sort_newest_first(names: list[str]) -> list[str]:
    """Return those that are names of checkpoints, the latest step first."""
    found = [
        (int(match["step"]), int(match["number"] or 1), name) for name in names if (match := _NAME.fullmatch(name))
    ]
    return [name for _, _, name in sorted(found, reverse=True)]


def unused_name(step: int, taken: set[str]) -> str:
    """Return `step-000000050`, with a number appended if a damaged or foreign checkpoint has that name."""
    name, number = f"step-{step:09d}", 1
    while name in taken:
        number += 1
        name = f"step-{step:09d}-{number}"
    return name


def _read(read: Callable[[], _T]) -> _T:
    """Call `read`; a missing or unreadable file counts as damage."""
    try:
        return read()
    except OSError as error:
        raise DamagedCheckpointError(f"cannot be read ({error.strerror or error})") from error
