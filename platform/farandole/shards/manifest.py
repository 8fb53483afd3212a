"""The manifest: a dataset's one index, written last. Without it there is no dataset.

It carries a checksum of itself and is written in one canonical form, so any changed byte of it is noticed.
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


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BlockInfo(_Part):
    """One record batch of a shard: its rows, its place in the file in bytes, and the xxh3-64 of these bytes."""

    rows: int
    offset: int
    bytes: int
    xxh3_64: str


class ShardInfo(_Part):
    """One Arrow IPC file. `file` is relative to the dataset directory and ends in the file's own checksum.

    The blocks, of which the first includes the file's header, and the footer cover every byte.
    """

    file: str
    rows: int
    bytes: int
    xxh3_128: str
    blocks: tuple[BlockInfo, ...]
    footer_xxh3_64: str


class EncryptionInfo(_Part):
    """How the shards are encrypted.

    Args:
        algorithm: The ciphers.
        key: What the key is called.
        environment: The environment variable that held it when the dataset was made.
        file: Or the file.
        fingerprint: By which the key is recognised.
        proof: HMAC-SHA256 of the content digest under a key derived from it: who has no key cannot list other shards.
    """

    algorithm: str
    key: str
    environment: str | None = None
    file: str | None = None
    fingerprint: str
    proof: str


class QuarantineFile(_Part):
    """One Parquet file of records that could not be read. `file` is relative to the dataset directory and ends in
    its own checksum."""

    file: str
    rows: int
    bytes: int
    xxh3_128: str


class MalformedRows(_Part):
    """What was left out of one source.

    Args:
        source: The source's name.
        policy: `drop` or `quarantine`.
        read: The rows that could be read.
        rows: The records that could not.
        reasons: The same by reason and column: `{"reason", "column", "rows", "examples": [{"file", "line"}, ...]}`;
            the records' values are not among them.
        quarantine: Where they are kept; None: nowhere.
    """

    source: str
    policy: str
    read: int
    rows: int
    reasons: tuple[dict[str, Any], ...] = ()
    quarantine: QuarantineFile | None = None


class Manifest(_Part):
    """Everything that is known about a dataset.

    Args:
        format_version: The version of this layout.
        digest: SHA-256 over schema, preprocessing and the checksums of all shards: the dataset's identity.
        columns: The columns of the shards.
        splits: Name of a split to its shards, in order.
        preprocessing: The fitted preprocessing, as data.
        statistics: Of each raw column, on the training split.
        split_rule: How rows were dealt to splits.
        transform: The user's function between query and features: `module:function`, options, SHA-256 of its source.
        expectations: What was expected of the rows, and what was found.
        privacy: The privacy policies that were applied to columns, what was detected and allowed, k-anonymity.
        encryption: How the shards are encrypted; None: they are not. Checksums are those of the encrypted bytes.
        sources: The files that were read: path, size in bytes, time of change in ns.
        malformed: What was left out of sources that allow it.
        request: SHA-256 over what was asked for (sources, query, features, code): tells whether to prepare again.
        code_version: The versions of Farandole, of its preparing code and of the libraries that prepare.
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
        """The number of rows in a split."""
        return sum(shard.rows for shard in self.splits.get(split, ()))

    @property
    def quarantine(self) -> tuple[QuarantineFile, ...]:
        """The files that hold what was left out."""
        return tuple(entry.quarantine for entry in self.malformed if entry.quarantine)

    @property
    def row_counts(self) -> dict[str, int]:
        """Rows by split, in the order in which they are used."""
        return {split: self.rows(split) for split in SPLITS}


def content_digest(columns: Schema, preprocessing: dict[str, Any], splits: dict[str, tuple[ShardInfo, ...]]) -> str:
    """The SHA-256 that identifies a dataset's content; names of files, times and machines do not enter it."""
    content = {
        "format_version": FORMAT_VERSION,
        "columns": columns.fingerprint,
        "preprocessing": preprocessing,
        "splits": {
            split: [[shard.rows, shard.bytes, shard.xxh3_128] for shard in shards] for split, shards in splits.items()
        },
    }
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def write_manifest(place: Location, manifest: Manifest) -> None:
    """Make the dataset exist: put the manifest into its directory, whole or not at all."""
    open_storage(place).write(MANIFEST_NAME, _render(manifest.model_dump()).encode())


def read_manifest(place: Location) -> Manifest:
    """The manifest of the dataset in a directory, local or remote.

    Raises:
        DatasetError: There is none, or it is damaged or of another version.
        StorageRefused: The object store will not give it.
        StorageFailed: The object store does not answer.
    """
    storage = open_storage(place)
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
        raise DatasetError(f"{path}: does not match its own checksum; it is damaged: prepare the dataset again")
    if version != FORMAT_VERSION:
        raise DatasetError(f"{path}: format version {version}; this Farandole reads {FORMAT_VERSION}: prepare it again")
    try:
        return Manifest.model_validate({key: value for key, value in data.items() if key != "checksum"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(key) for key in first["loc"])
        raise DatasetError(
            f"{path}: {place}: {first['msg']}: not a manifest of this version; prepare the dataset again"
        ) from error


def _render(data: dict[str, Any]) -> str:
    checksum = hashlib.sha256(_canonical(data).encode()).hexdigest()
    return json.dumps({**data, "checksum": checksum}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
