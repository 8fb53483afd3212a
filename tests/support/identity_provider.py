"""An identity provider: its keys, its tokens, and its JWK set over HTTP."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from tests.support.certificates import Identity

ISSUER, AUDIENCE = "https://login.example.org", "flights"


def make_signing_key(key_id: str | None = "first", algorithm: str = "ES256") -> Key:
    """Return a new private key."""
    parameters: Any = {"kid": key_id, "use": "sig"} if key_id else {"use": "sig"}
    if algorithm.startswith("ES"):
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm], parameters)
    if algorithm.startswith("Ed"):
        return OKPKey.generate_key("Ed25519", parameters)
    return RSAKey.generate_key(2048, parameters)


def key_set(*keys: Key) -> str:
    """Return the JWK set of public keys."""
    # `as_dict` adds the thumbprint as the id of a key without one; a set need not have ids.
    return json.dumps({"keys": [{**key.dict_value, **key.as_dict(private=False)} for key in keys]})


def make_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a valid token; None leaves a claim out."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "roles": ["predict"],
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def make_token(key: Key, algorithm: str = "ES256", header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a signed token; the header's `kid` is the key's unless another one is given."""
    whole = {"alg": algorithm, "kid": key.get("kid"), **(header or {})}
    return jwt.encode(
        {name: value for name, value in whole.items() if value is not None},
        make_claims(**changes),
        key,
        algorithms=[algorithm],
    )


class KeySetServer:
    """A JWK set over HTTP on this machine.

    Args:
        content: What it answers; can be replaced at any time.
        identity: Its certificate and key: then it answers by TLS.
    """

    def __init__(self, content: str, identity: Identity | None = None) -> None:
        self.content, self.status, self.requests = content, 200, 0
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.content.encode())

            def log_message(self, format: str, *arguments: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if identity is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(identity.certificate_path, identity.key_path)
            # the handshake is made by the thread of the connection: a stranger's must not stop the others
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/keys"

    @contextmanager
    def running(self) -> Iterator[KeySetServer]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
