"""A job's own SSH keys."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from farandole.backends.kubernetes.manifests import SshKeys


def new_ssh_keys() -> SshKeys:
    """Two fresh key pairs, Ed25519."""
    user, host = _pair(), _pair()
    return SshKeys(*user, *host)


def _pair() -> tuple[str, str]:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    written = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return written.decode(), public.decode() + "\n"
