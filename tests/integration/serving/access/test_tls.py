"""TLS handshakes of a real server, with generated certificates."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from farandole.serving.access import TlsFiles
from farandole.serving.service.calls import CERTIFICATE
from farandole.serving.service.server import make_config
from farandole.serving.service.settings import RequestLimits
from tests.support.certificates import Identity, make_identity


@contextmanager
def _service(files: TlsFiles) -> Iterator[int]:
    """Serve with uvicorn until the block ends; yield the port."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    with _running(uvicorn.Config(app, log_level="warning", lifespan="off", **files.uvicorn_options())) as port:
        yield port


@contextmanager
def _running(config: uvicorn.Config) -> Iterator[int]:
    """Run a server in a thread until the block ends; yield the port."""
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline_s = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline_s
            assert thread.is_alive()
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def authority(tmp_path: Path) -> Identity:
    return make_identity(tmp_path, "authority", is_authority=True)


def _get(port: int, context: ssl.SSLContext) -> tuple[int, str]:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
    try:
        connection.request("GET", "/")
        version = connection.sock.version()
        answer = connection.getresponse()
        answer.read()
        return answer.status, version
    finally:
        connection.close()


def _recording_app(names: list[Any]) -> Callable[..., Awaitable[None]]:
    """Return an application that adds the name of each request's client to `names`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        names.append(scope.get(CERTIFICATE))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def test_service_learns_the_name_of_the_client_on_every_request_of_a_connection(
    tmp_path: Path, authority: Identity
) -> None:
    server, client = (make_identity(tmp_path, name, authority) for name in ("server", "client"))
    files = TlsFiles(server.certificate_path, server.key_path, client_authority=authority.certificate_path)
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    context.load_cert_chain(client.certificate_path, client.key_path)
    names: list[Any] = []
    app = _recording_app(names)
    with _running(make_config(app, RequestLimits(), 10.0, files.uvicorn_options(), None)) as port:
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
        for _ in range(2):
            connection.request("GET", "/", headers={"farandole.certificate": "CN=forged"})
            assert connection.getresponse().read() == b"ok"
        connection.close()
    assert names == ["CN=client"] * 2


def test_service_without_an_authority_of_clients_knows_no_name(tmp_path: Path, authority: Identity) -> None:
    server, client = (make_identity(tmp_path, name, authority) for name in ("server", "client"))
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    context.load_cert_chain(client.certificate_path, client.key_path)
    names: list[Any] = []
    app = _recording_app(names)
    files = TlsFiles(server.certificate_path, server.key_path)
    with _running(make_config(app, RequestLimits(), 10.0, files.uvicorn_options(), None)) as port:
        assert _get(port, context)[0] == 200
    assert names == [None]


def test_tls_by_files(tmp_path: Path, authority: Identity) -> None:
    server = make_identity(tmp_path, "server", authority)
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    with _service(TlsFiles(server.certificate_path, server.key_path)) as port:
        assert _get(port, context) == (200, "TLSv1.3")
        stranger = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            _get(port, stranger)


def test_old_versions_of_tls_are_refused(tmp_path: Path, authority: Identity) -> None:
    server = make_identity(tmp_path, "server", authority)
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with (
        _service(TlsFiles(server.certificate_path, server.key_path)) as port,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        _get(port, context)


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

    with _service(files) as port:
        assert _get(port, context(client))[0] == 200
        for identity in (None, foreign, expired):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _get(port, context(identity))
        assert _get(port, context(client))[0] == 200
