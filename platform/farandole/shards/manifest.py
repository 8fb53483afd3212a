"""The manifest: the one index of a dataset, written last. Without it there is no dataset.

It contains a checksum of itself and is written in one canonical form, so that every changed byte is detected.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farandole.errors import DatasetError
from farandole.shards.schema import Schema
from farandole.spec import SPLITS
from farandole.storage import Location, open_storage

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BlockInfo(_Entry):
    """One record batch of a shard: its rows, its offset and size in the file, and the xxh3-64 of these bytes."""

    rows: int
    offset: int
    bytes: int
    xxh3_64: str


class ShardInfo(_Entry):
    """One Arrow IPC file. `file` is relative to the dataset directory and ends in the file's own checksum.

    The blocks, of which the first includes the file's header, and the footer cover every byte.
    """

    file: str
    rows: int
    bytes: int
    xxh3_128: str
    blocks: tuple[BlockInfo, ...]
    footer_xxh3_64: str


class EncryptionInfo(_Entry):
    """Encryption of the shards.

    Args:
        algorithm: The ciphers.
        key: The name of the key.
        environment: The environment variable that held the key when the dataset was prepared.
        file: Or the file that held it.
        fingerprint: Identifies the key.
        proof: HMAC-SHA256 of the content digest under a key derived from it: without the key, nobody can list other
            shards.
    """

    algorithm: str
    key: str
    environment: str | None = None
    file: str | None = None
    fingerprint: str
    proof: str


class QuarantineFile(_Entry):
    """One Parquet file of malformed records.

    `file` is relative to the dataset directory and ends in the file's own checksum.
    """

    file: str
    rows: int
    bytes: int
    xxh3_128: str


class MalformedRows(_Entry):
    """Records of one source that are not in the dataset.

    Args:
        source: The source's name.
        policy: `drop` or `quarantine`.
        read: The number of rows that could be parsed.
        rows: The number of records that could not.
        reasons: The malformed records by reason and column, without their values: `{"reason", "column", "rows",
            "examples": [{"file", "line"}, ...]}`.
        quarantine: The file that keeps them; None: they are dropped.
    """

    source: str
    policy: str
    read: int
    rows: int
    reasons: tuple[dict[str, Any], ...] = ()
    quarantine: QuarantineFile | None = None


class Manifest(_Entry):
    """Description of a dataset.

    Args:
        format_version: The version of this layout.
        digest: SHA-256 over schema, preprocessing and the checksums of all shards: the dataset's identity.
        columns: The columns of the shards.
        splits: The shards of each split, in order.
        preprocessing: The fitted preprocessing, as data.
        statistics: Statistics of each raw column, on the training split.
        split_rule: How rows were assigned to splits.
        transform: The user's function between query and features: `module:function`, options, SHA-256 of its source.
        expectations: The expectations about the rows, and what was found.
        privacy: The privacy policies that were applied to columns, what was detected and allowed, k-anonymity.
        encryption: The encryption of the shards; None: not encrypted. Checksums are those of the encrypted bytes.
        sources: The source files: path, size in bytes, modification time in ns, and the xxh3-128 of their content.
        malformed: The records that were left out, for each source that allows it.
        request: The cache key: SHA-256 over sources, query, features and code; another key means to prepare again.
        code_version: The versions of Farandole, of its preparation code and of the libraries used.
    """

    format_version: int = FORMAT_VERSION
    digest: str
    columns: Schema
    splits: dict[str, tuple[ShardInfo, ...]]
    preprocessing: dict[str, Any]
    statistics: dict[str, dict[str, Any]]
    split_rule: dict[str, Any]
    transform: dict[str, Any] | None = None
    expectations: tuple[dict[str, Any], ...] = ()
    privacy: dict[str, Any] = Field(default_factory=dict)
    encryption: EncryptionInfo | None = None
    sources: tuple[dict[str, Any], ...]
    malformed: tuple[MalformedRows, ...] = ()
    request: str
    code_version: dict[str, str]

    def rows(self, split: str) -> int:
        """Return the number of rows in a split."""
        return sum(shard.rows for shard in self.splits.get(split, ()))

    @property
    def quarantine(self) -> tuple[QuarantineFile, ...]:
        """The files that keep malformed records."""
        return tuple(entry.quarantine for entry in self.malformed if entry.quarantine)

    @property
    def row_counts(self) -> dict[str, int]:
        """The number of rows of each split, in the order of their use."""
        return {split: self.rows(split) for split in SPLITS}


def content_digest(columns: Schema, preprocessing: dict[str, Any], splits: dict[str, tuple[ShardInfo, ...]]) -> str:
    """Return the SHA-256 that identifies a dataset's content, independent of file names, times and machines."""
    content = {
        "format_version": FORMAT_VERSION,
        "columns": columns.fingerprint,
        "preprocessing": preprocessing,
        "splits": {
            split: [[shard.rows, shard.bytes, shard.xxh3_128] for shard in shards] for split, shards in splits.items()
        },
    }
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def write_manifest(location: Location, manifest: Manifest) -> None:
    """Publish the dataset by writing the manifest into its directory, whole or not at all."""
    open_storage(location).write(MANIFEST_NAME, _render(manifest.model_dump()).encode())


def read_manifest(location: Location) -> Manifest:
    """Return the manifest of the dataset in a directory.

    Raises:
        DatasetError: There is no manifest, or it is damaged or of another version.
        StorageAccessError: The object store refuses.
        StorageError: The object store does not answer.
    """
    storage = open_storage(location)
    path = storage.display_path(MANIFEST_NAME)
    try:
        text = storage.read(MANIFEST_NAME).decode("utf-8")
    except FileNotFoundError:
        raise DatasetError(
            f"{storage.display_path('')}: no {MANIFEST_NAME}, so no dataset (a preparation may have been interrupted);"
            " run `farandole prepare JOB.yaml`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); prepare the dataset again") from error
    try:
        data = json.loads(text)
        damaged = not isinstance(data, dict) or _render({k: v for k, v in data.items() if k != "checksum"}) != text
        version = data.get("format_version") if isinstance(data, dict) else None
    except ValueError:
        damaged, version = True, None
    if damaged:
        raise DatasetError(f"{path}: is damaged: it does not match its own checksum; prepare the dataset again")
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: has the format version {version}, and this version of Farandole reads {FORMAT_VERSION}; prepare"
            " the dataset again"
        )
    try:
        return Manifest.model_validate({key: value for key, value in data.items() if key != "checksum"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field_path = ".".join(str(key) for key in first["loc"])
        raise DatasetError(
            f"{path}: {field_path}: {first['msg']}: this is not a manifest of this version; prepare the dataset again"
        ) from error


def _render(data: dict[str, Any]) -> str:
    checksum = hashlib.sha256(_canonical(data).encode()).hexdigest()
    return json.dumps({**data, "checksum": checksum}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
