"""AES-256-GCM whose nonce follows from what is encrypted.

Shards have to be the same bytes from one preparation to the next, so nonces cannot be random. As in SIV (Rogaway and
Shrimpton, "Deterministic Authenticated-Encryption", 2006), the nonce is a keyed hash (HMAC-SHA256, under a key of its
own) of the associated data and the plaintext, cut to GCM's 96 bits. A nonce comes twice only for the same plaintext at
the same place, which then gives the same ciphertext; for two others it happens with a probability of 2^-33 after 2^32
encryptions. The price: equal plaintexts at equal places can be seen to be equal.
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
"""What sealing adds: the nonce before, the authentication tag behind."""

_VALUES = "farandole values"


class DecryptionError(Exception):
    """The key is another one, or the bytes or their place are not what was sealed."""


def encrypt(secret: Secret, purpose: str, place: bytes, plaintext: bytes | memoryview) -> bytes:
    """Encrypt: nonce, ciphertext, tag.

    Args:
        secret: The key.
        purpose: What is encrypted; each purpose has keys of its own.
        place: What the ciphertext is bound to: it can be opened only as the same.
        plaintext: The content.
    """
    mac = hmac.new(secret.derived(f"{purpose} nonce"), len(place).to_bytes(8, "little") + place, "sha256")
    mac.update(plaintext)
    nonce = mac.digest()[:NONCE_BYTES]
    return nonce + _cipher(secret.derived(f"{purpose} encryption")).encrypt(nonce, plaintext, place)


def decrypt(secret: Secret, purpose: str, place: bytes, sealed: bytes | memoryview) -> bytes:
    """What was sealed.

    Raises:
        DecryptionError: With another key or at another place, or it was changed since.
    """
    from cryptography.exceptions import InvalidTag

    cipher = _cipher(secret.derived(f"{purpose} encryption"))
    try:
        return cipher.decrypt(bytes(sealed[:NONCE_BYTES]), sealed[NONCE_BYTES:], place)
    except (InvalidTag, ValueError) as error:
        raise DecryptionError from error


def encrypt_text(secret: Secret, column: str, text: str) -> str:
    """What the policy `encrypt` makes of a value: base64 of nonce, ciphertext and tag, bound to its column."""
    return base64.b64encode(encrypt(secret, _VALUES, column.encode(), text.encode())).decode("ascii")


def decrypt_text(secret: Secret, column: str, sealed: str) -> str:
    """The value that `encrypt_text` was given.

    Raises:
        DataError: The key or the column is another one, or the text was changed.
    """
    try:
        return decrypt(secret, _VALUES, column.encode(), base64.b64decode(sealed, validate=True)).decode()
    except (DecryptionError, binascii.Error) as error:
        raise DataError(
            f"column {column}: a value cannot be decrypted with the key {secret.name} (fingerprint"
            f" {secret.fingerprint}); use the key and the column that it was encrypted with"
        ) from error


@lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only those who encrypt wait for its import

    return AESGCM(key)
