"""Signatures of bundles: Ed25519 over the bytes of the manifest, which has the digest of every other file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from farandole.bundle.manifest import SIGNATURE, read_manifest
from farandole.errors import BundleError, explain_os_error
from farandole.process.atomic import write_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_KEY_ID_CHARACTERS = 16


def create_key(path: Path) -> Path:
    """Create a key pair; return the file of the public key.

    Args:
        path: File of the private key, which only its user can read. The public key is beside it, as `NAME.pub`.

    Raises:
        BundleError: A file of this name exists, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, public = Ed25519PrivateKey.generate(), path.with_name(f"{path.name}.pub")
    private_pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public_pem = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    try:
        for file, mode, content in ((path, 0o600, private_pem), (public, 0o644, public_pem)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
                opened.write(content)
    except FileExistsError as error:
        raise BundleError(f"{error.filename}: exists already; a key is never replaced, so name another file") from None
    except OSError as error:
        raise BundleError(explain_os_error(error, path)) from error
    return public


def sign(folder: Path, key_file: Path) -> str:
    """Sign the manifest of a bundle; return the id of the key.

    Raises:
        BundleError: The key cannot be read.
    """
    key = _read_private_key(key_file)
    content, _ = read_manifest(folder)
    key_id = _key_id(key.public_key())
    signature = base64.b64encode(key.sign(content)).decode()
    write_json(folder / SIGNATURE, {"key_id": key_id, "signature": signature})
    return key_id


def check_signature(folder: Path, manifest: bytes, key_file: Path) -> None:
    """Check that the owner of a key has signed the manifest of a bundle.

    Args:
        folder: The bundle.
        manifest: The bytes of its manifest.
        key_file: PEM file with the public key.

    Raises:
        BundleError: The bundle is not signed, or by another key, or was changed since; or the key cannot be read.
    """
    from cryptography.exceptions import InvalidSignature

    key = _read_public_key(key_file)
    path = folder / SIGNATURE
    try:
        document = json.loads(path.read_bytes())
        key_id, signature = str(document["key_id"]), base64.b64decode(document["signature"], validate=True)
    except FileNotFoundError:
        raise BundleError(
            f"{folder}: is not signed, and {key_file} asks for a signature; sign it with `farandole export --sign-key`"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, binascii.Error) as error:
        raise BundleError(f"{path}: is not a signature; sign the bundle again") from error
    if key_id != _key_id(key):
        raise BundleError(f"{path}: was made with the key {key_id}, and {key_file} is {_key_id(key)}; use its own key")
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        raise BundleError(
            f"{path}: does not match the manifest, so one of them was changed; do not use this bundle, export the model"
            " again"
        ) from None


def _read_private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BundleError(explain_os_error(error, path)) from error
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path}: is not an Ed25519 key without a password; {_NEW_KEY}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: is a key of another kind than Ed25519; {_NEW_KEY}")
    return key


def _read_public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise BundleError(explain_os_error(error, path)) from error
    except ValueError as error:
        raise BundleError(f"{path}: is not a public key in PEM; name the file that ends in .pub") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path}: is a public key of another kind than Ed25519; {_NEW_KEY}")
    return key


_NEW_KEY = "`farandole export --new-key FILE` makes one"


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_KEY_ID_CHARACTERS]
