"""The two files of a checkpoint: the state, as torch writes it, and what the checkpoint says of itself."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch

STATE_FILE, META_FILE = "state.pt", "meta.json"
FORMAT = 1
"""The version of the format. Version 0 had neither random states nor a place inside an epoch."""
_CHUNK_BYTES = 4 * 2**20
"""What is hashed and written at once, while other threads run: Python's lock is free meanwhile."""


class DamagedCheckpointError(Exception):
    """A checkpoint is not what was written; the text says in what."""


def write_state(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Write a state, flushed to the disk; returns the file's size and digest.

    Raises:
        OSError: The disk is full, or does not take it.
    """
    with path.open("wb", buffering=0) as raw:
        hashed = _Hashed(raw)
        try:
            with _without_crc32():
                torch.save(state, cast(IO[bytes], hashed))
        except (OSError, RuntimeError):
            if hashed.failure is not None:  # torch tells that its writer broke, not why
                raise hashed.failure from None
            raise
        os.fsync(raw.fileno())
    return {"sha256": hashed.digest.hexdigest(), "bytes": hashed.bytes}


@contextmanager
def _without_crc32() -> Iterator[None]:
    """Torch's own checksums take a third of the time of a save, and the digest tells more."""
    kept = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(kept)


def read_state(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Read a state that `write_state` described so.

    Raises:
        Damaged: The file is another one.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    if size != known["bytes"]:
        raise DamagedCheckpointError(f"{STATE_FILE} has {size:,} bytes of {known['bytes']:,}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != known["sha256"]:
            raise DamagedCheckpointError("does not match its digest")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise DamagedCheckpointError(f"cannot be read ({error})") from error
    return state


def write_meta(path: Path, meta: dict[str, Any]) -> None:
    """Write what a checkpoint says of itself, flushed to the disk."""
    with path.open("wb") as file:
        file.write(encode_meta(meta))
        file.flush()
        os.fsync(file.fileno())


def encode_meta(meta: dict[str, Any]) -> bytes:
    """As JSON with a checksum of its own."""
    return json.dumps({"format": FORMAT, **meta, "checksum": _checksum({"format": FORMAT, **meta})}).encode()


def decode_meta(content: bytes) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        Damaged: It does not match its own checksum, or is of another format.
    """
    try:
        meta = json.loads(content)
    except ValueError as error:
        raise DamagedCheckpointError(f"cannot be read ({META_FILE} is no JSON: {error})") from error
    if not isinstance(meta, dict) or meta.pop("checksum", None) != _checksum(meta):
        raise DamagedCheckpointError(f"cannot be read ({META_FILE} does not match its checksum)")
    if meta.get("format") != FORMAT:
        raise DamagedCheckpointError(f"is of format {meta.get('format', 0)}, and this Farandole reads format {FORMAT}")
    return meta


def _checksum(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


class _Hashed(io.RawIOBase):
    """What torch writes into: hashes each piece and writes it, so that the bytes are gone through once."""

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self.digest = hashlib.sha256()
        self.bytes = 0
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK_BYTES):
            piece = view[start : start + _CHUNK_BYTES]
            self.digest.update(piece)
            self._write_all(piece)
        self.bytes += len(view)
        return len(view)

    def _write_all(self, piece: memoryview) -> None:
        try:
            while piece:
                piece = piece[self._raw.write(piece) :]
        except OSError as error:
            self.failure = error
            raise
