"""Encryption keys: read from the environment or a file, never displayed, and only used through derived keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from functools import cache
from pathlib import Path
from typing import Any

from farandole.errors import SpecError
from farandole.spec import KeyReference

KEY_BYTES = 32
_MAKE_ONE = "`openssl rand -hex 32` makes a new one"


class Secret:
    """A key of 32 bytes that does not appear in any text.

    Args:
        key: The bytes.
        name: The name of the key in manifests and errors.
    """

    __slots__ = ("_key", "name")

    def __init__(self, key: bytes, name: str) -> None:
        self._key = key
        self.name = name

    def derive(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for one purpose (HKDF-SHA256, RFC 5869); keys of two purposes are independent."""
        return _derive(self._key, purpose)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the key and reveal nothing else about it: a truncated HMAC."""
        return hmac.digest(self.derive("farandole fingerprint"), b"", "sha256")[:8].hex()

    def __repr__(self) -> str:
        """Return the name only."""
        return f"<key {self.name}>"

    def __getstate__(self) -> Any:
        """Return the key for Spark's workers, which receive it over Spark's own connections."""
        return self._key, self.name

    def __setstate__(self, state: Any) -> None:
        """Restore the state."""
        self._key, self.name = state


@cache
def _derive(key: bytes, purpose: str) -> bytes:
    # RFC 5869 with an empty salt and one output block; the standard library has HMAC, the only ingredient.
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), key, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\1", "sha256")


def read_key(key: KeyReference, field_path: str) -> Secret:
    """Read the key that a job file refers to.

    Args:
        key: Where the key is.
        field_path: The field of the job file, for errors.

    Raises:
        SpecError: The key is missing, is readable by others, or has the wrong form.
    """
    if key.environment is not None:
        text, source = os.environ.get(key.environment), f"{field_path}.environment: {key.environment}"
        if not text:
            raise SpecError(f"{source}: the variable is not set; set it to the key ({_MAKE_ONE})")
    else:
        path = Path(str(key.file))
        text, source = _read_file(path, f"{field_path}.file: {path}"), f"{field_path}.file: {path}"
    decoded = _decode(text.strip())
    if decoded is None:
        raise SpecError(
            f"{source}: contains {len(text.strip())} characters that are not a key of {KEY_BYTES} bytes in hexadecimal"
            f" or base64; {_MAKE_ONE}"
        )
    return Secret(decoded, key.name)


def _read_file(path: Path, source: str) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise SpecError(
                f"{source}: its mode is {stat.S_IMODE(mode):04o}, so other users can access the key; `chmod 600 {path}`"
            )
        return path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise SpecError(f"{source}: cannot be read ({error.strerror}); {_MAKE_ONE}") from error


def _decode(text: str) -> bytes | None:
    """Return the 32 bytes that hexadecimal digits or base64 represent; None if they do not."""
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == KEY_BYTES else None
