"""TLS by files: checked at the start, with errors that name the file, and passed to uvicorn as its options."""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.errors import UserError, explain_os_error

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SOON = timedelta(days=14)
_LONGEST_NAME = 512


@dataclass(frozen=True)
class TlsFiles:
    """The files of a service that is reached by TLS.

    Args:
        certificate: PEM: the server's certificate, followed by those of the authorities between it and the root.
        key: PEM: its private key.
        key_password: A file with the key's password; None: the key is not encrypted.
        client_authority: PEM: certificates of the authorities of clients (mutual TLS). Then every caller needs a
            certificate that one of them signed, before it can send a request; keys and tokens are checked as well, and
            the audit log names the certificate.
    """

    certificate: Path
    key: Path
    key_password: Path | None = None
    client_authority: Path | None = None

    def uvicorn_options(self) -> dict[str, Any]:
        """Check the files, and return uvicorn's options.

        Raises:
            UserError: A file cannot be read, is readable by everybody, is not what it should be, has expired, or does
                not fit the others.
        """
        self.check()
        options: dict[str, Any] = {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        if self.key_password is not None:
            options["ssl_keyfile_password"] = _read(self.key_password).decode().rstrip("\n")
        if self.client_authority is not None:
            options |= {"ssl_ca_certs": str(self.client_authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return options | {"ssl_context_factory": _context}

    def check(self) -> list[str]:
        """Check the files.

        Returns:
            Warnings: certificates that expire within two weeks.

        Raises:
            UserError: As above.
        """
        certificates = _certificates(self.certificate)
        warnings = [_check_dates(self.certificate, certificates[0])]
        self._check_key(certificates[0])
        if self.client_authority is not None:
            for authority in _certificates(self.client_authority):
                warnings.append(_check_dates(self.client_authority, authority))
                _check_authority(self.client_authority, authority)
        return [warning for warning in warnings if warning]

    def _check_key(self, certificate: Certificate) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

        content = _read(self.key, is_secret=True)
        password = None
        if self.key_password is not None:
            password = _read(self.key_password, is_secret=True).rstrip(b"\n")
        try:
            key = load_pem_private_key(content, password)
        except TypeError as error:  # a password is missing, or there is one too many
            remedy = "name a file with its password" if password is None else "leave the file with the password out"
            state = "encrypted" if password is None else "not encrypted"
            raise UserError(f"{self.key}: the private key is {state}; {remedy}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            reason = "or the password is wrong" if password else "in PEM form"
            raise UserError(f"{self.key}: is not a private key {reason}; give the key of {self.certificate}") from error
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
            raise UserError(
                f"{self.key}: does not belong to the first certificate in {self.certificate}"
                f" ({certificate.subject.rfc4514_string()}); give the key with which it was requested"
            )


def certificate_name(content: bytes) -> str:
    """Return the subject of a client's certificate as text (RFC 4514); of one without a subject, its digest.

    Args:
        content: The certificate in DER form, which an authority of clients has signed.
    """
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import load_der_x509_certificate

    certificate = load_der_x509_certificate(content)
    subject = certificate.subject.rfc4514_string()
    return subject[:_LONGEST_NAME] or f"sha256:{certificate.fingerprint(SHA256()).hex()}"


def _context(config: Any, default: Any) -> ssl.SSLContext:
    """Return uvicorn's TLS context, limited to TLS 1.2 and 1.3."""
    context: ssl.SSLContext = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _read(path: Path, *, is_secret: bool = False) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if is_secret and mode & 0o037:
            raise UserError(f"{path}: its mode is {mode:04o}, so other users can access the secret; `chmod 600 {path}`")
        return path.read_bytes()
    except OSError as error:
        raise UserError(explain_os_error(error, path)) from error


def _certificates(path: Path) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise UserError(f"{path}: is not a certificate in PEM form") from error


def _check_dates(path: Path, certificate: Certificate) -> str | None:
    """Return a warning if a certificate expires soon."""
    now = datetime.now(UTC)
    name = certificate.subject.rfc4514_string()
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise UserError(f"{path}: the certificate of {name} expired at {end:%Y-%m-%d %H:%M} UTC; renew it")
    if now < start:
        raise UserError(
            f"{path}: the certificate of {name} is valid from {start:%Y-%m-%d %H:%M} UTC, and the clock shows"
            f" {now:%Y-%m-%d %H:%M} UTC; correct the clock, or wait"
        )
    return (
        f"{path}: the certificate of {name} expires at {end:%Y-%m-%d %H:%M} UTC; renew it"
        if end - now < _SOON
        else None
    )


def _check_authority(path: Path, certificate: Certificate) -> None:
    from cryptography.x509 import BasicConstraints, ExtensionNotFound

    try:
        is_authority = certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise UserError(
            f"{path}: {certificate.subject.rfc4514_string()} is not a certificate authority, so it cannot vouch for"
            " clients; give the authority's certificate"
        )
