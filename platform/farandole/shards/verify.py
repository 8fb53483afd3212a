"""Verification of every byte of a dataset against its manifest."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from farandole.privacy import Secret
from farandole.shards.encrypted import BlockError, DecryptedBlocks, EncryptedShard
from farandole.shards.encryption import DecryptionError, has_key, load_key
from farandole.shards.manifest import Manifest, QuarantineFile, ShardInfo, content_digest, read_manifest
from farandole.shards.schema import Schema
from farandole.spec import KeyReference
from farandole.storage import Location, Storage, open_storage


@dataclass(frozen=True)
class Problem:
    """A difference between a dataset and its manifest.

    Args:
        shard: The shard's file, relative to the dataset directory; None: the manifest itself.
        block: The number of the damaged record batch in the shard; None: the problem is not in a record batch.
        text: The problem, as the predicate of a sentence.
    """

    shard: str | None
    block: int | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as plain data."""
        return asdict(self)


def verify(
    location: Location, on_progress: Callable[[int, int], None] | None = None, key: KeyReference | None = None
) -> list[Problem]:
    """Compare every byte of all shards with the manifest; decrypt encrypted shards if the key is available.

    Args:
        location: The dataset directory.
        on_progress: Called with the bytes read so far, and the bytes in all.
        key: Where to find the key of encrypted shards. Default: where it was found when the dataset was prepared.

    Returns:
        The problems; none if the dataset is intact.

    Raises:
        DatasetError: The manifest is missing or damaged, or the available key is another one.
    """
    manifest = read_manifest(location)
    storage = open_storage(location)
    secret = load_key(manifest, location, key) if has_key(manifest, key) else None
    problems = _check_manifest(manifest)
    shards = [shard for group in manifest.splits.values() for shard in group]
    total, done = sum(shard.bytes for shard in shards), 0
    for shard in shards:
        problems += _check_shard(storage, shard, manifest, secret)
        done += shard.bytes
        if on_progress is not None:
            on_progress(done, total)
    return problems + [problem for entry in manifest.quarantine for problem in _check_quarantine(storage, entry)]


def _check_quarantine(storage: Storage, entry: QuarantineFile) -> list[Problem]:
    try:
        content = storage.read(entry.file)
    except OSError as error:
        return [Problem(entry.file, None, f"cannot be read: {error.strerror}")]
    whole = len(content) == entry.bytes and xxhash.xxh3_128_hexdigest(content) == entry.xxh3_128
    return [] if whole else [Problem(entry.file, None, "does not match its checksum")]


def _check_manifest(manifest: Manifest) -> list[Problem]:
    problems = []
    if content_digest(manifest.columns, manifest.preprocessing, manifest.splits) != manifest.digest:
        problems.append(Problem(None, None, "the content digest does not match the listed shards"))
    problems += [
        Problem(shard.file, None, f"has {shard.rows} rows, but its record batches add up to another number")
        for shards in manifest.splits.values()
        for shard in shards
        if sum(block.rows for block in shard.blocks) != shard.rows
    ]
    return problems


def _check_shard(storage: Storage, shard: ShardInfo, manifest: Manifest, secret: Secret | None) -> list[Problem]:
    try:
        with storage.as_local_file(shard.file) as path:
            return _check_file(path, shard, manifest, secret)
    except OSError as error:
        return [Problem(shard.file, None, f"cannot be read: {error.strerror}")]


def _check_file(path: Path, shard: ShardInfo, manifest: Manifest, secret: Secret | None) -> list[Problem]:
    size = path.stat().st_size
    if size != shard.bytes:
        return [Problem(shard.file, None, f"has {size} bytes instead of {shard.bytes}, which the manifest states")]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        view = memoryview(memory)
        try:
            problems = _check_bytes(view, shard)
        finally:
            view.release()
    if problems:
        return problems
    if manifest.encryption is None:
        return _check_arrow(path, shard, manifest.columns)
    return _check_encrypted(path, shard, manifest.columns, secret) if secret is not None else []


def _check_bytes(view: memoryview, shard: ShardInfo) -> list[Problem]:
    problems = [
        Problem(shard.file, number, "does not match its checksum")
        for number, block in enumerate(shard.blocks)
        if xxhash.xxh3_64_hexdigest(view[block.offset : block.offset + block.bytes]) != block.xxh3_64
    ]
    end = shard.blocks[-1].offset + shard.blocks[-1].bytes
    if xxhash.xxh3_64_hexdigest(view[end:]) != shard.footer_xxh3_64:
        problems.append(Problem(shard.file, None, "has a footer that does not match its checksum"))
    if not problems and xxhash.xxh3_128_hexdigest(view) != shard.xxh3_128:
        problems.append(Problem(shard.file, None, "does not match its checksum"))
    return problems


def _check_arrow(path: Path, shard: ShardInfo, schema: Schema) -> list[Problem]:
    """Check that an intact file contains what the manifest states."""
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            if not reader.schema.equals(schema.arrow):
                return [Problem(shard.file, None, "has other columns than the manifest states")]
            rows = [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)]
    except (OSError, pa.ArrowException) as error:
        return [Problem(shard.file, None, f"is not an Arrow IPC file ({error})")]
    if rows != [block.rows for block in shard.blocks]:
        return [Problem(shard.file, None, "has other record batches than the manifest states")]
    return []


def _check_encrypted(path: Path, shard: ShardInfo, schema: Schema, secret: Secret) -> list[Problem]:
    """Check that an intact file can be decrypted and contains what the manifest states."""
    encrypted = EncryptedShard(path, shard, schema, secret, DecryptedBlocks())
    problems = []
    for index in range(len(shard.blocks)):
        try:
            encrypted.decrypt(index)
        except BlockError as error:
            problems.append(Problem(shard.file, index, str(error)))
    try:
        encrypted.check_footer()
    except DecryptionError:
        problems.append(Problem(shard.file, None, "has a footer that cannot be decrypted"))
    return problems
