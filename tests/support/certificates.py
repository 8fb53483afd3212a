"""Certificates for tests: an authority, and servers and clients that it vouches for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, also as files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    certificate_path: Path
    key_path: Path


def make_identity(
    directory: Path,
    name: str,
    authority: Identity | None = None,
    *,
    is_authority: bool = False,
    starts: timedelta = timedelta(minutes=-5),
    lasts: timedelta = timedelta(days=60),
    password: str | None = None,
) -> Identity:
    """Make a certificate for `name`, `localhost` and `127.0.0.1`.

    Args:
        directory: Where `NAME.pem` and `NAME.key` are written.
        name: The common name.
        authority: Who signs it; None: it signs itself.
        is_authority: Whether it may sign others.
        starts: When it becomes valid, from now.
        lasts: For how long it is valid.
        password: The password of the key's file.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC) + starts
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signer = authority.key if authority else key
    usage = x509.KeyUsage(True, False, False, False, False, is_authority, is_authority, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lasts)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    identity = Identity(certificate, key, directory / f"{name}.pem", directory / f"{name}.key")
    identity.certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    identity.key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    identity.key_path.chmod(0o600)
    return identity
