"""Shards encrypted at rest: each record batch, and the footer, by itself, so that blocks can be read one by one.

The plain bytes are those of the Arrow file that would have been written; so many pieces, in their order, are that file.
A piece is bound to its split, shard, place in the shard and schema: it can be opened nowhere else. What the manifest
says of the shards is vouched for by a keyed hash of the content digest.

What is not encrypted: the manifest, with vocabularies, statistics and column names. Policies (`data.privacy`) are for
these.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farandole.errors import DatasetError, SpecError
from farandole.privacy import Secret, decrypt, encrypt, read_key
from farandole.privacy.cipher import ALGORITHM, DecryptionError
from farandole.shards.manifest import EncryptionInfo, Manifest, content_digest
from farandole.spec import KeyReference

if TYPE_CHECKING:
    from farandole.shards.schema import Schema

_BLOCKS, _MANIFEST = "farandole blocks", "farandole manifest"


@dataclass(frozen=True)
class PieceCipher:
    """What encrypts and decrypts the pieces of one shard.

    Args:
        secret: The key.
        split: The shard's split.
        index: The shard's number in its split.
        fingerprint: That of the dataset's schema.
    """

    secret: Secret
    split: str
    index: int
    fingerprint: str

    def close(self, piece: int, plain: bytes | memoryview) -> bytes:
        """Encrypt a piece: blocks are counted from 0, and the footer comes after the last one."""
        return encrypt(self.secret, _BLOCKS, self._place(piece), plain)

    def open(self, piece: int, sealed: bytes | memoryview) -> bytes:
        """Decrypt a piece.

        Raises:
            DecryptionError: The bytes, the place or the key are others.
        """
        return decrypt(self.secret, _BLOCKS, self._place(piece), sealed)

    def _place(self, piece: int) -> bytes:
        return f"{self.split}/{self.index}/{piece}/{self.fingerprint}".encode()


def cipher_for(secret: Secret, file: str, schema: Schema) -> PieceCipher:
    """The seal of a shard.

    Args:
        secret: The key.
        file: The shard's file, relative to the dataset directory: `train/00003-….arrow`.
        schema: The dataset's columns.
    """
    split, _, name = file.partition("/")
    return PieceCipher(secret, split, int(name.partition("-")[0]), schema.fingerprint)


def describe_encryption(secret: Secret, key: KeyReference, digest: str) -> EncryptionInfo:
    """What the manifest tells of the encryption: where the key lies, how it is recognised; nothing of the key.

    Args:
        secret: The key.
        key: Where it lies.
        digest: The dataset's content digest.
    """
    return EncryptionInfo(
        algorithm=ALGORITHM,
        key=secret.name,
        environment=key.environment,
        file=key.file,
        fingerprint=secret.fingerprint,
        proof=_proof(secret, digest),
    )


def has_key(manifest: Manifest, key: KeyReference | None = None) -> bool:
    """Whether there is anything where the key of a dataset's shards is looked for; also if they are not encrypted."""
    if manifest.encryption is None:
        return True
    key = key or _place_of(manifest.encryption)
    return bool(os.environ.get(key.environment)) if key.environment else Path(str(key.file)).exists()


def load_key(manifest: Manifest, directory: object, key: KeyReference | None = None) -> Secret | None:
    """The key of a dataset's shards; None where they are not encrypted.

    Args:
        manifest: The dataset's manifest.
        directory: The dataset directory, for errors.
        key: Where the key lies here. Default: where it lay when the dataset was made.

    Raises:
        DatasetError: The key is not there or is another one, or the manifest was not written by one who has it.
    """
    told = manifest.encryption
    if told is None:
        return None
    key = key or _place_of(told)
    needed = f"{directory}: the shards are encrypted with the key {told.key} (fingerprint {told.fingerprint})"
    if told.algorithm != ALGORITHM:
        raise DatasetError(f"{needed} by {told.algorithm}, which this Farandole does not know; prepare it again")
    try:
        secret = read_key(key, "shards.encryption.key")
    except SpecError as error:
        raise DatasetError(f"{needed}, looked for in {key.description}: {error}") from error
    if secret.fingerprint != told.fingerprint:
        raise DatasetError(
            f"{needed}, and {key.description} holds another one (fingerprint {secret.fingerprint}); give the right one"
        )
    digest = content_digest(manifest.columns, manifest.preprocessing, manifest.splits)
    if digest != manifest.digest or not hmac.compare_digest(_proof(secret, digest), told.proof):
        raise DatasetError(
            f"{directory}: the manifest lists shards or a preprocessing that nobody with the key {told.key} wrote; it"
            " was changed: prepare the dataset again"
        )
    return secret


def _place_of(told: EncryptionInfo) -> KeyReference:
    """Where the key lay when the dataset was made."""
    return KeyReference(environment=told.environment, file=told.file, id=told.key)


def _proof(secret: Secret, digest: str) -> str:
    return hmac.digest(secret.derive(_MANIFEST), digest.encode(), "sha256").hex()


__all__ = ["DecryptionError", "PieceCipher", "cipher_for", "describe_encryption", "has_key", "load_key"]
