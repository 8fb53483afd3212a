"""Where checkpoints lie: directories of this machine, or prefixes of an object store.

A directory is written under a hidden name, flushed, and renamed. An object store has no rename, so its objects get
their names at once, and `meta.json`, which marks a checkpoint whole, comes last; what has none is not listed.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any, Protocol, cast

from farandole.storage import LocalStorage, Location, open_storage
from farandole.training.checkpoint.format import (
    META_FILE,
    STATE_FILE,
    DamagedCheckpointError,
    decode_meta,
    read_state,
    write_meta,
    write_state,
)

_NAME = re.compile(r"step-(?P<step>\d{9,})(?:-(?P<number>\d+))?")


class CheckpointBackend(Protocol):
    """Checkpoints by name."""

    def shown(self, name: str) -> str:
        """A checkpoint, as messages call it; of the empty name: all of them."""

    def names(self) -> list[str]:
        """All checkpoints, newest first."""

    def meta(self, name: str) -> dict[str, Any]:
        """What a checkpoint says of itself.

        Raises:
            Damaged: It is not what was written.
        """

    def state(self, name: str, meta: dict[str, Any]) -> dict[str, Any]:
        """The state of a checkpoint.

        Raises:
            Damaged: It is not what was written.
        """

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Write a checkpoint; returns its name. It appears whole, or not at all."""

    def remove(self, name: str) -> None:
        """Remove a checkpoint."""

    def tidy(self) -> None:
        """Remove what a writer that was killed left half-made. No other may be writing."""


def open_backend(place: Location) -> CheckpointBackend:
    """The store in a directory or behind a URI.

    Raises:
        StorageRefused: The URI is not one that can be used.
    """
    storage = open_storage(place)
    if isinstance(storage, LocalStorage):
        return DirectoryBackend(storage.directory)
    from farandole.training.checkpoint.remote import ObjectStoreBackend  # object stores cost time to import

    return ObjectStoreBackend(place)


def read_checkpoint(place: Location, name: str | None = None) -> dict[str, Any]:
    """The state of a checkpoint, for those who want to look into it.

    Args:
        place: Where the checkpoints lie.
        name: Which one. Default: the newest.

    Raises:
        FileNotFoundError: There is none.
        Damaged: It is not what was written.
    """
    store = open_backend(place)
    names = [name] if name else store.names()
    if not names:
        raise FileNotFoundError(f"{store.shown('')}: no checkpoint lies there")
    return store.state(names[0], store.meta(names[0]))


class DirectoryBackend:
    """Checkpoints as directories of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def shown(self, name: str) -> str:
        """The path."""
        return str(self._directory / name)

    def names(self) -> list[str]:
        """All directories with such a name."""
        if not self._directory.is_dir():
            return []
        return sort_newest_first([path.name for path in self._directory.iterdir()])

    def meta(self, name: str) -> dict[str, Any]:
        """The content of `meta.json`."""
        return decode_meta(readable(lambda: (self._directory / name / META_FILE).read_bytes()))

    def state(self, name: str, meta: dict[str, Any]) -> dict[str, Any]:
        """The content of `state.pt`."""
        path = self._directory / name / STATE_FILE
        return cast(dict[str, Any], readable(lambda: read_state(path, meta["files"][STATE_FILE])))

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Write both files aside, flush them and their directory, and rename it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        temporary = self._directory / f".step-{uuid.uuid4().hex}.tmp"
        temporary.mkdir()
        try:
            described = write_state(temporary / STATE_FILE, state)
            write_meta(temporary / META_FILE, {**meta, "files": {STATE_FILE: described}})
            _flush(temporary)
            # A directory that is there is never replaced: between removing and renaming there would be none.
            name = unused_name(meta["step"], {path.name for path in self._directory.iterdir()})
            temporary.rename(self._directory / name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _flush(self._directory)
        return name

    def remove(self, name: str) -> None:
        """Hide it first, so that nobody sees half of it."""
        hidden = self._directory / f".step-{uuid.uuid4().hex}.tmp"
        (self._directory / name).rename(hidden)
        shutil.rmtree(hidden)

    def tidy(self) -> None:
        """Remove hidden directories."""
        for path in self._directory.glob(".step-*.tmp"):
            shutil.rmtree(path)


def sort_newest_first(names: list[str]) -> list[str]:
    """Those that are names of checkpoints, the latest step first."""
    found = [
        (int(match["step"]), int(match["number"] or 1), name) for name in names if (match := _NAME.fullmatch(name))
    ]
    return [name for _, _, name in sorted(found, reverse=True)]


def unused_name(step: int, taken: set[str]) -> str:
    """`step-000000050`, or with a number where there is one already: of a damaged one, or of another training."""
    name, number = f"step-{step:09d}", 1
    while name in taken:
        number += 1
        name = f"step-{step:09d}-{number}"
    return name


def readable(read: Any) -> Any:
    """What `read` gives; a file that is missing or refuses to be read is damage."""
    try:
        return read()
    except OSError as error:
        raise DamagedCheckpointError(f"cannot be read ({error.strerror or error})") from error


def _flush(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
