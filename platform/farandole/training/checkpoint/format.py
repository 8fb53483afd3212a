"""The two files of a checkpoint, the state as torch writes it and its metadata, and the digest of weights."""

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
"""Version of the format. Version 0 had neither random states nor a position inside an epoch."""
_CHUNK_BYTES = 4 * 2**20
"""Bytes hashed and written at once, with Python's lock released."""


class DamagedCheckpointError(Exception):
    """A checkpoint does not match what was written; the text continues a sentence that begins with its name."""


def write_state(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Write a state and flush it to disk; returns the file's size and digest.

    Raises:
        OSError: The disk is full, or rejects the file.
    """
    with path.open("wb", buffering=0) as raw:
        hashing = _HashingWriter(raw)
        try:
            with _without_crc32():
                torch.save(state, cast(IO[bytes], hashing))
        except (OSError, RuntimeError):
            if hashing.failure is not None:  # torch reports that its writer failed, not why
                raise hashing.failure from None
            raise
        os.fsync(raw.fileno())
    return {"sha256": hashing.digest.hexdigest(), "bytes": hashing.bytes}


@contextmanager
def _without_crc32() -> Iterator[None]:
    """Disable torch's own checksums, which take a third of the time of a save; the digest is stronger."""
    previous = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(previous)


def read_state(path: Path, described: dict[str, Any]) -> dict[str, Any]:
    """Read a state.

    Args:
        path: The file.
        described: Its size and digest, as `write_state` returned them.

    Raises:
        DamagedCheckpointError: The file does not match its size or digest.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    if size != described["bytes"]:
        raise DamagedCheckpointError(f"{STATE_FILE} has {size:,} bytes of {described['bytes']:,}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != described["sha256"]:
            raise DamagedCheckpointError("does not match its digest")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text has several lines, for readers of torch's documentation
        text = "cannot be read back: it holds an object that is neither a tensor nor a plain value"
        raise DamagedCheckpointError(text) from error
    except (ValueError, RuntimeError) as error:
        raise DamagedCheckpointError(f"cannot be read ({error})") from error
    return state


def write_meta(path: Path, meta: dict[str, Any]) -> None:
    """Write the metadata and flush it to disk."""
    with path.open("wb") as file:
        file.write(encode_meta(meta))
        file.flush()
        os.fsync(file.fileno())


def encode_meta(meta: dict[str, Any]) -> bytes:
    """Encode the metadata as JSON with its own checksum."""
    return json.dumps({"format": FORMAT, **meta, "checksum": _checksum({"format": FORMAT, **meta})}).encode()


def decode_meta(content: bytes) -> dict[str, Any]:
    """Decode the metadata.

    Raises:
        DamagedCheckpointError: The metadata does not match its checksum, or has another format.
    """
    try:
        meta = json.loads(content)
    except ValueError as error:
        raise DamagedCheckpointError(f"cannot be read ({META_FILE} is not JSON: {error})") from error
    if not isinstance(meta, dict) or meta.pop("checksum", None) != _checksum(meta):
        raise DamagedCheckpointError(f"cannot be read ({META_FILE} does not match its checksum)")
    if meta.get("format") != FORMAT:
        raise DamagedCheckpointError(f"has format {meta.get('format', 0)}, and this version reads format {FORMAT}")
    return meta


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, shapes and bytes of a state dict, in name order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _checksum(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


class _HashingWriter(io.RawIOBase):
    """File object for torch that hashes and writes each chunk, so that the bytes are read only once."""

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
            chunk = view[start : start + _CHUNK_BYTES]
            self.digest.update(chunk)
            self._write_all(chunk)
        self.bytes += len(view)
        return len(view)

    def _write_all(self, chunk: memoryview) -> None:
        try:
            while chunk:
                chunk = chunk[self._raw.write(chunk) :]
        except OSError as error:
            self.failure = error
            raise
