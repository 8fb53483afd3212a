"""The secret of a service: 32 bytes in a private file, never shown, and only used through derived keys."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from farandole.errors import UserError, explain_os_error
from farandole.process.atomic import write_atomic
from farandole.process.locks import wait_for_lock

SECRET_VARIABLE = "FARANDOLE_ACCESS_SECRET_FILE"
"""The environment variable with the path of the secret's file; without it, the file is in the access directory."""

_BYTES = 32
_FILE = "secret"


class ServerSecret:
    """Keys that are derived from one secret, one for each purpose (RFC 5869, without a salt)."""

    def __init__(self, secret: bytes) -> None:
        self._extracted = hmac.digest(bytes(_BYTES), secret, "sha256")

    def derive(self, purpose: str) -> bytes:
        """Return the key of 32 bytes for a purpose."""
        return hmac.digest(self._extracted, purpose.encode() + b"\1", "sha256")

    def __repr__(self) -> str:
        return "ServerSecret(...)"


def secret_path(directory: Path) -> Path:
    """Return the path of the secret's file."""
    named = os.environ.get(SECRET_VARIABLE)
    return Path(named).expanduser() if named else directory / _FILE


def read_secret(directory: Path, *, create: bool) -> ServerSecret:
    """Read the secret of an access directory.

    Args:
        directory: The access directory.
        create: Whether to make the secret if there is none; a file named by the variable is never made.

    Raises:
        UserError: There is none, other users can read or change it, or it is not 32 bytes in hexadecimal.
    """
    path = secret_path(directory)
    if create and not os.environ.get(SECRET_VARIABLE) and not path.exists():
        _create(directory, path)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise UserError(
            f"{explain_os_error(error, path)}; it must hold the secret with which keys are hashed"
        ) from error
    if mode & 0o037:
        raise UserError(f"{path}: its mode is {mode:04o}, so other users can access the secret; `chmod 600 {path}`")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != _BYTES:
        raise UserError(
            f"{path}: contains {len(text)} characters that are not {_BYTES} bytes in hexadecimal;"
            f" `openssl rand -hex {_BYTES}` makes a secret (keys are valid only with the secret they were made with)"
        )
    return ServerSecret(secret)


def _create(directory: Path, path: Path) -> None:
    with wait_for_lock(directory / "secret.lock"):
        if not path.exists():
            write_atomic(path, secrets.token_hex(_BYTES) + "\n", durable=True, mode=0o600)
