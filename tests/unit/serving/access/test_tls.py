from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from farandole.errors import UserError
from farandole.serving.access.tls import TlsFiles, certificate_name
from tests.support.certificates import make_identity

DAY = timedelta(days=1)


def _files(directory: Path, **changes: Path) -> TlsFiles:
    server = make_identity(directory, "server")
    return TlsFiles(**{"certificate": server.certificate_path, "key": server.key_path, **changes})


def test_good_files_become_options_of_uvicorn(tmp_path: Path) -> None:
    options = _files(tmp_path).uvicorn_options()
    assert options["ssl_certfile"] == str(tmp_path / "server.pem")
    assert options["ssl_keyfile"] == str(tmp_path / "server.key")
    context = options["ssl_context_factory"](None, lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert "ssl_cert_reqs" not in options


def test_authority_of_clients_requires_their_certificates(tmp_path: Path) -> None:
    authority = make_identity(tmp_path, "authority", is_authority=True)
    options = _files(tmp_path, client_authority=authority.certificate_path).uvicorn_options()
    assert options["ssl_cert_reqs"] == ssl.CERT_REQUIRED
    assert options["ssl_ca_certs"] == str(authority.certificate_path)


def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    other = make_identity(tmp_path, "other")
    with pytest.raises(
        UserError, match=r"other\.key: does not belong to the first certificate in .*server\.pem \(CN=server"
    ):
        _files(tmp_path, key=other.key_path).check()


def test_expired_certificate_is_refused(tmp_path: Path) -> None:
    old = make_identity(tmp_path, "old", starts=-3 * DAY, lasts=DAY)
    with pytest.raises(UserError, match=r"old\.pem: the certificate of CN=old expired at .* UTC; renew it"):
        TlsFiles(old.certificate_path, old.key_path).check()


def test_certificate_of_the_future_points_at_the_clock(tmp_path: Path) -> None:
    new = make_identity(tmp_path, "new", starts=DAY)
    with pytest.raises(UserError, match=r"is valid from .* and the clock shows .*; correct the clock, or wait"):
        TlsFiles(new.certificate_path, new.key_path).check()


def test_certificate_that_expires_soon_is_a_warning(tmp_path: Path) -> None:
    soon = make_identity(tmp_path, "soon", lasts=5 * DAY)
    assert [text.partition(": ")[2][:30] for text in TlsFiles(soon.certificate_path, soon.key_path).check()] == [
        "the certificate of CN=soon exp"
    ]
    assert _files(tmp_path).check() == []


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pem: No such file or directory"):
        _files(tmp_path, certificate=tmp_path / "none.pem").check()


def test_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    files = _files(tmp_path)
    with pytest.raises(UserError, match=r"server\.key: is not a certificate in PEM form"):
        TlsFiles(files.key, files.key).check()
    (tmp_path / "text.key").write_text("not a key")
    (tmp_path / "text.key").chmod(0o600)
    with pytest.raises(UserError, match=r"text\.key: is not a private key in PEM form"):
        TlsFiles(files.certificate, tmp_path / "text.key").check()


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    files = _files(tmp_path)
    files.key.chmod(0o644)
    with pytest.raises(UserError, match=r"server\.key: its mode is 0644, so other users can access the secret"):
        files.check()


def test_encrypted_key_needs_a_file_with_its_password(tmp_path: Path) -> None:
    server = make_identity(tmp_path, "locked", password="open sesame")
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    password.chmod(0o600)
    options = TlsFiles(server.certificate_path, server.key_path, password).uvicorn_options()
    assert options["ssl_keyfile_password"] == "open sesame"
    with pytest.raises(UserError, match="the private key is encrypted; name a file with its password"):
        TlsFiles(server.certificate_path, server.key_path).check()
    password.write_text("wrong")
    with pytest.raises(UserError, match="is not a private key or the password is wrong") as caught:
        TlsFiles(server.certificate_path, server.key_path, password).check()
    assert "wrong." not in str(caught.value)
    with pytest.raises(UserError, match="the private key is not encrypted; leave the file with the password out"):
        _files(tmp_path, key_password=password).check()


def test_certificate_of_a_client_is_not_an_authority(tmp_path: Path) -> None:
    client = make_identity(tmp_path, "client")
    with pytest.raises(UserError, match=r"client\.pem: CN=client is not a certificate authority"):
        _files(tmp_path, client_authority=client.certificate_path).check()


def test_certificate_is_named_by_its_subject(tmp_path: Path) -> None:
    found = make_identity(tmp_path, "Zoë, client").certificate.public_bytes(Encoding.DER)
    assert certificate_name(found) == "CN=Zoë\\, client"


def test_certificate_without_a_subject_is_named_by_its_digest() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    digest = certificate.fingerprint(SHA256()).hex()
    assert certificate_name(certificate.public_bytes(Encoding.DER)) == f"sha256:{digest}"
