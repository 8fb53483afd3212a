"""AES-256-GCM with a nonce that is derived from the plaintext.

Shards must be the same bytes from one preparation to the next, so nonces cannot be random. As in SIV (Rogaway and
Shrimpton, "Deterministic Authenticated-Encryption", 2006), the nonce is a keyed hash (HMAC-SHA256, with a separate key)
of the associated data and the plaintext, truncated to GCM's 96 bits. A nonce is reused only for the same plaintext with
the same associated data, which gives the same ciphertext; for two different ones, the probability is 2^-33 after 2^32
encryptions. The price: equal plaintexts with equal associated data are recognisable as equal.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING

from farandole.errors import DataError
from farandole.privacy.keys import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALGORITHM = "AES-256-GCM, synthetic nonce (HMAC-SHA256), HKDF-SHA256"
NONCE_BYTES = 12
OVERHEAD_BYTES = NONCE_BYTES + 16
"""How much longer a ciphertext is than its plaintext: the nonce in front, the authentication tag at the end."""

_VALUES = "farandole values"


class DecryptionError(Exception):
    """The key, the associated data or the ciphertext is not the one of the encryption."""


def encrypt(secret: Secret, purpose: str, context: bytes, plaintext: bytes | memoryview) -> bytes:
    """Return nonce, ciphertext and tag.

    Args:
        secret: The key.
        purpose: What is encrypted; each purpose has its own derived keys.
        context: Associated data that the ciphertext is bound to, such as its position: decryption needs the same.
        plaintext: The content.
    """
    mac = hmac.new(secret.derive(f"{purpose} nonce"), len(context).to_bytes(8, "little") + context, "sha256")
    mac.update(plaintext)
    nonce = mac.digest()[:NONCE_BYTES]
    return nonce + _cipher(secret.derive(f"{purpose} encryption")).encrypt(nonce, plaintext, context)


def decrypt(secret: Secret, purpose: str, context: bytes, encrypted: bytes | memoryview) -> bytes:
    """Return the plaintext of what `encrypt` returned.

    Raises:
        DecryptionError: The key or the context is a different one, or the ciphertext was changed.
    """
    from cryptography.exceptions import InvalidTag

    cipher = _cipher(secret.derive(f"{purpose} encryption"))
    try:
        return cipher.decrypt(bytes(encrypted[:NONCE_BYTES]), encrypted[NONCE_BYTES:], context)
    except (InvalidTag, ValueError) as error:
        raise DecryptionError from error


def encrypt_text(secret: Secret, column: str, text: str) -> str:
    """Encrypt a value as the policy `encrypt` does: base64 of nonce, ciphertext and tag, bound to its column."""
    return base64.b64encode(encrypt(secret, _VALUES, column.encode(), text.encode())).decode("ascii")


def decrypt_text(secret: Secret, column: str, encrypted: str) -> str:
    """Return the value that `encrypt_text` received.

    Raises:
        DataError: The key or the column is a different one, or the text was changed.
    """
    try:
        return decrypt(secret, _VALUES, column.encode(), base64.b64decode(encrypted, validate=True)).decode()
    except (DecryptionError, binascii.Error) as error:
        raise DataError(
            f"column {column}: a value cannot be decrypted with the key {secret.name} (fingerprint"
            f" {secret.fingerprint}); use the key and the column that it was encrypted with"
        ) from error


@lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to import, and only needed for encryption

    return AESGCM(key)
