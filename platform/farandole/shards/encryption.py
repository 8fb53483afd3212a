"""Encryption of shards at rest: each record batch and the footer separately, so that blocks can be read one by one.

The decrypted pieces, in their order, are the Arrow file that would have been written without encryption. A piece is
bound to its split, shard, position in the shard and schema, and cannot be decrypted as any other. A keyed hash of the
content digest authenticates the manifest's list of shards.

The manifest itself is not encrypted: vocabularies, statistics and column names are protected by policies
(`data.privacy`).
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
    """Cipher of the pieces of one shard.

    Args:
        secret: The key.
        split: The shard's split.
        index: The shard's number in its split.
        fingerprint: The fingerprint of the dataset's schema.
    """

    secret: Secret
    split: str
    index: int
    fingerprint: str

    def encrypt(self, piece: int, plain: bytes | memoryview) -> bytes:
        """Encrypt a piece: blocks are numbered from 0, and the footer follows the last one."""
        return encrypt(self.secret, _BLOCKS, self._context(piece), plain)

    def decrypt(self, piece: int, encrypted: bytes | memoryview) -> bytes:
        """Decrypt a piece.

        Raises:
            DecryptionError: The bytes, the position or the key differ from those of the encryption.
        """
        return decrypt(self.secret, _BLOCKS, self._context(piece), encrypted)

    def _context(self, piece: int) -> bytes:
        return f"{self.split}/{self.index}/{piece}/{self.fingerprint}".encode()


def cipher_for(secret: Secret, file: str, schema: Schema) -> PieceCipher:
    """Return the cipher of a shard.

    Args:
        secret: The key.
        file: The shard's file, relative to the dataset directory: `train/00003-….arrow`.
        schema: The dataset's columns.
    """
    split, _, name = file.partition("/")
    return PieceCipher(secret, split, int(name.partition("-")[0]), schema.fingerprint)


def describe_encryption(secret: Secret, key: KeyReference, digest: str) -> EncryptionInfo:
    """Return the manifest's entry about the encryption: where the key is found and how it is recognized.

    Args:
        secret: The key, of which the entry reveals nothing.
        key: Where it is found.
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
    """Return whether the key of a dataset's shards can be looked up, or the shards are not encrypted."""
    if manifest.encryption is None:
        return True
    key = key or _reference(manifest.encryption)
    return bool(os.environ.get(key.environment)) if key.environment else Path(str(key.file)).exists()


def load_key(manifest: Manifest, directory: object, key: KeyReference | None = None) -> Secret | None:
    """Return the key of a dataset's shards; None if they are not encrypted.

    Args:
        manifest: The dataset's manifest.
        directory: The dataset directory, for errors.
        key: Where to find the key. Default: where it was found when the dataset was prepared.

    Raises:
        DatasetError: The key is missing or another one, or the manifest was not written by an owner of the key.
    """
    info = manifest.encryption
    if info is None:
        return None
    key = key or _reference(info)
    needed = f"{directory}: the shards are encrypted with the key {info.key} (fingerprint {info.fingerprint})"
    if info.algorithm != ALGORITHM:
        raise DatasetError(
            f"{needed} by {info.algorithm}, which this version of Farandole does not know; prepare the dataset again"
        )
    try:
        secret = read_key(key, "shards.encryption.key")
    except SpecError as error:
        raise DatasetError(f"{needed}, looked for in {key.description}: {error}") from error
    if secret.fingerprint != info.fingerprint:
        raise DatasetError(
            f"{needed}, and {key.description} holds another one (fingerprint {secret.fingerprint}); provide the right"
            " key"
        )
    digest = content_digest(manifest.columns, manifest.preprocessing, manifest.splits)
    if digest != manifest.digest or not hmac.compare_digest(_proof(secret, digest), info.proof):
        raise DatasetError(
            f"{directory}: the manifest lists shards or a preprocessing that were not written with the key"
            f" {info.key}; it was changed: prepare the dataset again"
        )
    return secret


def _reference(info: EncryptionInfo) -> KeyReference:
    """Return where the key was found when the dataset was prepared."""
    return KeyReference(environment=info.environment, file=info.file, id=info.key)


def _proof(secret: Secret, digest: str) -> str:
    return hmac.digest(secret.derive(_MANIFEST), digest.encode(), "sha256").hex()


__all__ = ["DecryptionError", "PieceCipher", "cipher_for", "describe_encryption", "has_key", "load_key"]
