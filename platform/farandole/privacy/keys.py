"""Keys: read from the environment or a file, never shown, and only ever used through keys derived from them."""

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
    """A key of 32 bytes that does not show itself in any text.

    Args:
        key: The bytes.
        name: What the key is called in manifests and errors.
    """

    __slots__ = ("_key", "name")

    def __init__(self, key: bytes, name: str) -> None:
        self._key = key
        self.name = name

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose (HKDF-SHA256, RFC 5869): keys of two purposes tell nothing of each
        other."""
        return _derived(self._key, purpose)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits by which the key is recognised, and which are of no other use: a truncated HMAC."""
        return hmac.digest(self.derived("farandole fingerprint"), b"", "sha256")[:8].hex()

    def __repr__(self) -> str:
        return f"<key {self.name}>"

    def __getstate__(self) -> Any:
        """For Spark's workers, which get the key over Spark's own connections."""
        return self._key, self.name

    def __setstate__(self, state: Any) -> None:
        self._key, self.name = state


@cache
def _derived(key: bytes, purpose: str) -> bytes:
    # RFC 5869 with an empty salt and one block of output; the standard library has its only ingredient.
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), key, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\1", "sha256")


def read_key(key: KeyReference, place: str) -> Secret:
    """The key that a job file refers to.

    Args:
        key: Where it lies.
        place: The field of the job file, for errors.

    Raises:
        SpecError: It is not there, may be read by others, or is not a key.
    """
    if key.environment is not None:
        text, source = os.environ.get(key.environment), f"{place}.environment: {key.environment}"
        if not text:
            raise SpecError(f"{source}: the variable is not set; set it to the key ({_MAKE_ONE})")
    else:
        path = Path(str(key.file))
        text, source = _read_file(path, f"{place}.file: {path}"), f"{place}.file: {path}"
    decoded = _decoded(text.strip())
    if decoded is None:
        raise SpecError(
            f"{source}: holds {len(text.strip())} characters that are not a key of {KEY_BYTES} bytes in hexadecimal or"
            f" base64; {_MAKE_ONE}"
        )
    return Secret(decoded, key.name)


def _read_file(path: Path, source: str) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise SpecError(
                f"{source}: its mode is {stat.S_IMODE(mode):04o}, so others than its owner may use the key;"
                f" `chmod 600 {path}`"
            )
        return path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise SpecError(f"{source}: cannot be read ({error.strerror}); {_MAKE_ONE}") from error


def _decoded(text: str) -> bytes | None:
    """The 32 bytes that hexadecimal digits or base64 stand for."""
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == KEY_BYTES else None
