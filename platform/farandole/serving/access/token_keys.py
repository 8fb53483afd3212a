"""The public keys of an identity provider: a JWK set (RFC 7517) by URL or file, kept and refreshed.

A token with an unknown key id makes the set be read again, but not more often than every half minute: otherwise a
caller who invents key ids could direct the service's requests at the provider. The last good set is kept on the disk as
well, so that a service can start while the provider is away.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from farandole.errors import UnavailableError, UserError, explain_os_error
from farandole.process.atomic import write_atomic

if TYPE_CHECKING:
    from joserfc.jwk import Key

_LOGGER = logging.getLogger(__name__)
_MAX_AGE_S = 600.0
"""A key that the provider has withdrawn is trusted for this long at most, while the provider answers."""
_MIN_PAUSE_S = {"url": 30.0, "file": 1.0}
_TIMEOUT_S = 5.0
_MAX_BYTES = 2**20
_MIN_RSA_BITS = 2048
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FILE = "token-keys.json"


class TokenKeys:
    """The keys of one provider in one worker.

    Args:
        location: An https URL (http only for this machine), or a file.
        directory: The access directory, where the last good set is kept.
        authority: PEM: the only authorities that may vouch for the server; None: those that this machine trusts.

    Raises:
        UserError: The location or the authority cannot be used.
        UnavailableError: The set cannot be read and never could be.
    """

    def __init__(self, location: str, directory: Path, authority: Path | None = None) -> None:
        self._location, self._kept_path = location, directory / _FILE
        self._is_url = "://" in location
        self._min_pause_s = _MIN_PAUSE_S["url" if self._is_url else "file"]
        self._keys: dict[str | None, list[Key]] = {}
        self._tried_s = self._read_s = time.monotonic()
        self._refreshing: asyncio.Task[None] | None = None
        self.version = 0
        """Number of times that the set was read; what was derived from an older one is obsolete."""
        self._tls: ssl.SSLContext | None = None
        if self._is_url:
            _check_url(location)
        if location.startswith("https://"):
            self._tls = _tls_context(authority)
        elif authority is not None:
            raise UserError(f"{authority}: is the authority of a server, and the token keys are not read by https")
        try:
            self._use(self._read())
        except (OSError, ValueError) as error:
            self._use_kept(error)

    def find(self, key_id: str | None, algorithm: str, key_types: tuple[str, ...]) -> Key | None:
        """Return the key that a token names; without a name, the only one that fits; None: there is none.

        Args:
            key_id: The token's `kid`.
            algorithm: The token's `alg`.
            key_types: The types of keys that this algorithm uses.
        """
        keys = (
            self._keys.get(key_id, []) if key_id is not None else [key for each in self._keys.values() for key in each]
        )
        fitting = [key for key in keys if key.key_type in key_types and key.get("alg") in (None, algorithm)]
        return fitting[0] if len(fitting) == 1 or (fitting and key_id is not None) else None

    async def refresh(self) -> None:
        """Read the set again, unless that was tried a moment ago; concurrent requests wait for the same answer."""
        if self._refreshing is None and time.monotonic() - self._tried_s < self._min_pause_s:
            return
        await asyncio.shield(self._start_refresh())

    def refresh_if_old(self) -> None:
        """Start to read the set again if it is old; nobody waits for it."""
        now_s = time.monotonic()
        if now_s - self._read_s > _MAX_AGE_S and now_s - self._tried_s > self._min_pause_s:
            self._start_refresh()

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None:
            self._tried_s = time.monotonic()
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        try:
            self._use(await asyncio.to_thread(self._read))
        except (OSError, ValueError) as error:
            _LOGGER.warning("%s; the keys that were read before stay in use", self._explain(error))
        finally:
            self._refreshing = None

    def _read(self) -> bytes:
        """Return the set's text.

        Raises:
            OSError: The file or the server does not answer.
            ValueError: The answer is too large, or not HTTP.
        """
        if not self._is_url:
            return Path(self._location).expanduser().read_bytes()
        handlers = (_NoRedirects, urllib.request.HTTPSHandler(context=self._tls))
        request = urllib.request.Request(self._location, headers={"Accept": "application/json"})
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as answer:
                content: bytes = answer.read(_MAX_BYTES + 1)
        except http.client.HTTPException as error:
            raise ValueError(f"the answer is not HTTP: {type(error).__name__}") from error
        if len(content) > _MAX_BYTES:
            raise ValueError(f"the answer is larger than {_MAX_BYTES} bytes")
        return content

    def _use(self, content: bytes) -> None:
        """Replace the keys.

        Raises:
            ValueError: The content is not a JWK set with at least one usable key.
        """
        self._keys = parse_key_set(content)
        self._read_s = time.monotonic()
        self.version += 1
        if self._is_url:
            kept = {"location": self._location, "keys": content.decode()}
            try:
                write_atomic(self._kept_path, json.dumps(kept), mode=0o600)
            except OSError as error:
                _LOGGER.warning("%s: cannot be written (%s)", self._kept_path, error.strerror)

    def _use_kept(self, error: Exception) -> None:
        """Use the set that was kept on the disk.

        Raises:
            UserError: The file with the keys cannot be used.
            UnavailableError: No set of this location was kept.
        """
        if not self._is_url:
            raise UserError(self._explain(error)) from error
        try:
            kept = json.loads(self._kept_path.read_bytes())
            if kept["location"] != self._location:
                raise KeyError("location")
            self._keys = parse_key_set(kept["keys"].encode())
            self.version += 1
        except (OSError, ValueError, KeyError, TypeError) as kept_error:
            remedy = "start the provider, or correct the URL"
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                remedy = "name the authority that signed its certificate with --oidc-ca, or renew the certificate"
            raise UnavailableError(
                f"{self._explain(error)}; tokens cannot be checked without these keys: {remedy}"
            ) from kept_error
        _LOGGER.warning("%s; the keys that were read at an earlier start are used", self._explain(error))

    def _explain(self, error: Exception) -> str:
        reason = error.reason if isinstance(error, urllib.error.URLError) else getattr(error, "strerror", None) or error
        return f"{self._location}: the token keys cannot be read ({reason})"


def parse_key_set(content: bytes) -> dict[str | None, list[Key]]:
    """Return the keys of a JWK set that can check signatures, by key id; others are left out.

    Raises:
        ValueError: The content is not a JWK set, or none of its keys can be used.
    """
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("it is not a JWK set: a JSON object with a list `keys`")  # noqa: TRY004 - of the content
    found: dict[str | None, list[Key]] = {}
    for data in document["keys"]:
        if not isinstance(data, dict) or not _is_for_signatures(data):
            continue
        try:
            key = import_key(_public(data))
            if key.key_type == "RSA" and key.public_key.key_size < _MIN_RSA_BITS:  # type: ignore[union-attr]
                continue
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        found.setdefault(data.get("kid"), []).append(key)
    if not found:
        raise ValueError(f"it has no key for signatures: RSA of at least {_MIN_RSA_BITS} bits, EC or OKP")
    return found


def _is_for_signatures(data: dict[str, Any]) -> bool:
    operations = data.get("key_ops", ["verify"])
    return (
        data.get("kty") in ("RSA", "EC", "OKP")  # never `oct`: whoever could read the set could sign
        and data.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and isinstance(data.get("kid"), str | None)
    )


def _public(data: dict[str, Any]) -> dict[str, Any]:
    """Return a key without its private members, should somebody have published those."""
    return {name: value for name, value in data.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}


def _check_url(location: str) -> None:
    parts = urlsplit(location)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise UserError(
        f"{location}: token keys are read by https, or by http from this machine: whoever can change them on the way"
        " can make tokens; use an https URL, or a file"
    )


def _tls_context(authority: Path | None) -> ssl.SSLContext:
    """Return how the server of the keys is checked.

    Raises:
        UserError: The file of the authority cannot be read, or has no certificate.
    """
    try:
        return ssl.create_default_context(cafile=authority)
    except ssl.SSLError as error:
        raise UserError(f"{authority}: is not a certificate in PEM form; give the authority's certificate") from error
    except OSError as error:
        assert authority is not None
        raise UserError(explain_os_error(error, authority)) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: the keys come from the location that was configured, or not at all."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Follow no redirect."""
        return
