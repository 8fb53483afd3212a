"""Limits of bodies and security headers in a real server; TLS handshakes with generated certificates."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from farandole.serving.access import SECURITY_HEADERS, TlsFiles
from tests.support.certificates import Identity, make_identity
from tests.support.guarded_service import MAX_BYTES, guarded_service


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with guarded_service() as port:
        yield port


def _post(
    port: int, path: str, body: bytes, *, chunked: bool = False
) -> tuple[int, dict[str, int | str], dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = iter([body[at : at + 9000] for at in range(0, len(body), 9000)]) if chunked else body
    connection.request("POST", path, sent, {"Content-Type": "application/json"}, encode_chunked=chunked)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read()), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return found


@pytest.mark.parametrize("chunked", [False, True])
def test_largest_body_passes_and_a_larger_one_is_refused(port: int, chunked: bool) -> None:
    status, answer, headers = _post(port, "/length", b"x" * MAX_BYTES, chunked=chunked)
    assert (status, answer) == (200, {"length": MAX_BYTES})
    assert SECURITY_HEADERS.items() <= headers.items()
    if chunked:
        # The server may close the connection while the client is still sending.
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n" % (MAX_BYTES + 1) + b"x" * (MAX_BYTES + 1) + b"\r\n")
        text = connection.makefile("rb").read()
        connection.close()
        assert text.startswith(b"HTTP/1.1 413 ")
        assert b"x-content-type-options: nosniff" in text
        assert text.endswith(b'"code": "body_too_large"}')
    else:
        status, answer, headers = _post(port, "/length", b"x" * (MAX_BYTES + 1))
        assert (status, answer["code"], headers["connection"]) == (413, "body_too_large", "close")


def test_large_body_that_the_framework_parses_is_refused_the_same_way(port: int) -> None:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = b"POST /parsed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"%x\r\n[" % (MAX_BYTES + 9) + b"1," * (MAX_BYTES // 2 + 4) + b"\r\n")
    text = connection.makefile("rb").read()
    connection.close()
    assert text.startswith(b"HTTP/1.1 413 ")
    assert text.count(b"HTTP/1.1") == 1


def test_body_that_does_not_arrive_is_refused() -> None:
    with guarded_service(within_s=0.3) as port:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nabc")
        text = connection.makefile("rb").read()
        connection.close()
    assert text.startswith(b"HTTP/1.1 408 ")


@pytest.fixture
def authority(tmp_path: Path) -> Identity:
    return make_identity(tmp_path, "authority", is_authority=True)


def _get_over_tls(port: int, context: ssl.SSLContext) -> tuple[int, str | None, str]:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
    try:
        connection.request("POST", "/length", b"abc")
        version = connection.sock.version()
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("strict-transport-security"), version
    finally:
        connection.close()


def test_tls_by_files(tmp_path: Path, authority: Identity) -> None:
    server = make_identity(tmp_path, "server", authority)
    options = TlsFiles(server.certificate_path, server.key_path).uvicorn_options()
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    with guarded_service(**options) as port:
        status, strict, version = _get_over_tls(port, context)
        assert (status, version) == (200, "TLSv1.3")
        assert strict.startswith("max-age=")
        stranger = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            _get_over_tls(port, stranger)


def test_old_versions_of_tls_are_refused(tmp_path: Path, authority: Identity) -> None:
    server = make_identity(tmp_path, "server", authority)
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with (
        guarded_service(**TlsFiles(server.certificate_path, server.key_path).uvicorn_options()) as port,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        _get_over_tls(port, context)


def test_mutual_tls_requires_a_certificate_of_the_authority(tmp_path: Path, authority: Identity) -> None:
    server, client = (make_identity(tmp_path, name, authority) for name in ("server", "client"))
    foreign = make_identity(tmp_path, "foreign", make_identity(tmp_path, "other", is_authority=True))
    expired = make_identity(tmp_path, "expired", authority, starts=timedelta(days=-2), lasts=timedelta(days=1))
    files = TlsFiles(server.certificate_path, server.key_path, client_authority=authority.certificate_path)

    def context(identity: Identity | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(authority.certificate_path))
        if identity is not None:
            made.load_cert_chain(identity.certificate_path, identity.key_path)
        return made

    with guarded_service(**files.uvicorn_options()) as port:
        assert _get_over_tls(port, context(client))[0] == 200
        for identity in (None, foreign, expired):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _get_over_tls(port, context(identity))
        assert _get_over_tls(port, context(client))[0] == 200
