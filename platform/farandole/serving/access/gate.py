"""The one object that the service asks: who is it, may they, how much, and was it recorded?"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from farandole.errors import UserError, explain_os_error
from farandole.serving.access.audit import AuditError, AuditLog
from farandole.serving.access.callers import AccessDenied, Caller, Scope, not_valid, unavailable
from farandole.serving.access.key_store import PREFIX, KeyCache, KeyStore
from farandole.serving.access.limits import Limits
from farandole.serving.access.server_secret import read_secret
from farandole.serving.access.tokens import TokenRules, TokenVerifier
from farandole.storage import home

_LOGGER = logging.getLogger(__name__)
_LOG_EVERY_S = 10.0

Headers = Iterable[tuple[bytes, bytes]]
"""The headers of a request as ASGI has them: `scope["headers"]`, names in lower case."""


def access_directory() -> Path:
    """Return where keys, limits and the audit log are unless another directory is chosen: `$FARANDOLE_HOME/access`."""
    return home() / "access"


def open_directory(directory: Path) -> None:
    """Create the access directory, for its owner only, if it does not exist.

    Raises:
        UserError: It cannot be created.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(explain_os_error(error, directory)) from error


@dataclass(frozen=True)
class AccessConfig:
    """Settings of a service's access control.

    Args:
        directory: Where keys, limits and the audit log are.
        tokens: Rules for bearer tokens; None: only API keys are accepted.
        audit: Whether to write the audit log.
        audit_required: Whether a request that cannot be recorded is refused (503). Otherwise it is counted.
    """

    directory: Path = field(default_factory=access_directory)
    tokens: TokenRules | None = None
    audit: bool = True
    audit_required: bool = False


class Access:
    """Access control in one worker of a service. Create it with `open` in each worker, after any fork.

    Args:
        config: How access is controlled.
    """

    def __init__(self, config: AccessConfig) -> None:
        open_directory(config.directory)
        secret = read_secret(config.directory, create=True)
        self._config = config
        self._keys = KeyCache(KeyStore(config.directory, secret))
        self._keys.refresh()
        self._limits = Limits(config.directory)
        self._tokens = TokenVerifier(config.tokens, config.directory) if config.tokens else None
        self._audit = AuditLog(config.directory, secret) if config.audit or config.audit_required else None
        self._looked_in: asyncio.AbstractEventLoop | None = None
        """The event loop whose present turn has looked at the file of the keys."""
        self._logged_s = -_LOG_EVERY_S
        self.audit_failures = 0
        """Lines of the audit log that could not be written."""

    @classmethod
    def open(cls, config: AccessConfig) -> Self:
        """Open keys, limits, token keys and the audit log.

        Raises:
            UserError: A file cannot be used: permissions, damage, a full disk.
            UnavailableError: The token keys cannot be fetched and were never fetched before, or a library is missing.
        """
        try:
            return cls(config)
        except OSError as error:
            raise UserError(explain_os_error(error, error.filename or config.directory)) from error

    async def authorize(self, headers: Headers, scope: Scope, certificate: str | None = None) -> Caller:
        """Identify the caller by the key or token in the headers, and take one request from its rate.

        Accepts `Authorization: Bearer KEY` (or a token) and `X-API-Key: KEY`.

        Args:
            headers: `scope["headers"]` of ASGI.
            scope: What the request needs.
            certificate: The name of the client's certificate, for the audit log; None: it showed none.

        Raises:
            AccessDenied: 401, 403, 429 or 503. It has been counted in the audit log.
        """
        try:
            credential = _credential(headers)
            caller = self._by_key(credential) if credential.startswith(PREFIX) else await self._by_token(credential)
            caller.require(scope)
            self._limits.take_request(caller)
        except AccessDenied as denied:
            self.record_refusal(denied, certificate)
            raise
        return caller

    def charge(self, caller: Caller, num_rows: int, certificate: str | None = None) -> None:
        """Charge rows to the caller's daily quota, before they are predicted.

        Args:
            caller: Who asks.
            num_rows: Number of rows.
            certificate: As in `authorize`.

        Raises:
            AccessDenied: 429, or 413 if the quota is smaller than this request. It has been counted in the audit log.
        """
        try:
            self._limits.take_rows(caller, num_rows)
        except AccessDenied as denied:
            self.record_refusal(denied, certificate)
            raise

    def give_back(self, caller: Caller, num_rows: int) -> None:
        """Return charged rows for which the service failed to answer."""
        self._limits.give_back_rows(caller, num_rows)

    async def record(
        self, caller: Caller, action: str, status: int, *, model: str, version: str, digest: str, rows: int, **more: Any
    ) -> None:
        """Write a line of the audit log; the answer may be sent once this returns.

        Args:
            caller: Who asked.
            action: What for: `predict`, `explain`, `reload`.
            status: The HTTP status of the answer.
            model: The model's name.
            version: Its version.
            digest: The bundle's digest.
            rows: Number of rows.
            more: More fields, such as the request's id. Never inputs or predictions.

        Raises:
            AccessDenied: The line cannot be written, and `audit_required` is set (503).
        """
        if self._audit is None:
            return
        fields = {"model": model, "version": version, "digest": digest, "rows": rows, **more}
        try:
            await self._audit.record(caller, action, status, fields)
        except AuditError as error:
            self._count_failure(error)
            if self._config.audit_required:
                raise unavailable("audit_unavailable", caller) from error

    def record_refusal(self, denied: AccessDenied, certificate: str | None = None) -> None:
        """Count a refusal in the audit log; `authorize` and `charge` have done so for theirs."""
        if self._audit is None:
            return
        try:
            self._audit.record_refusal(denied, certificate)
        except AuditError as error:
            self._count_failure(error)

    def close(self) -> None:
        """Write what was only counted, and close all files."""
        if self._audit is not None:
            try:
                self._audit.close()
            except AuditError as error:
                self._count_failure(error)
        self._keys.close()
        self._limits.close()
        if self._tokens is not None:
            self._tokens.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _by_token(self, token: str) -> Caller:
        if self._tokens is None:
            raise not_valid()
        return await self._tokens.verify(token)

    def _by_key(self, key: str) -> Caller:
        try:
            self._refresh_keys()
            known = self._keys.find(key)
        except UserError as error:
            self._log(str(error))
            raise unavailable("keys_unavailable") from error
        if known is None:
            raise not_valid()
        if known.record.revoked is not None:
            raise AccessDenied(401, "key_revoked", "The key was revoked.", caller=known.caller)
        if known.expires_s <= time.time():
            message = f"The key expired at {known.record.expires}."
            raise AccessDenied(401, "key_expired", message, caller=known.caller)
        return known.caller

    def _refresh_keys(self) -> None:
        """Read the keys again if their file has changed; look at it once in a turn of the event loop.

        A turn handles what was read from the connections before it began. So all its requests were sent before the
        look, and a key that is revoked afterwards was still valid when they were.

        Raises:
            UserError: The file cannot be read, or is damaged.
        """
        loop = asyncio.get_running_loop()
        if self._looked_in is loop:
            return
        self._keys.refresh()
        self._looked_in = loop
        loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._looked_in = None

    def _count_failure(self, error: AuditError) -> None:
        self.audit_failures += 1
        self._log(str(error))

    def _log(self, text: str) -> None:
        """Log an error, but not one for each request."""
        now_s = time.monotonic()
        if now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            _LOGGER.error("%s", text)


def _credential(headers: Headers) -> str:
    """Return the key or token of a request.

    Raises:
        AccessDenied: There is none, there are several, or one has another form (401).
    """
    found: list[str] = []
    for name, value in headers:
        if name == b"authorization":
            kind, _, text = value.decode("latin-1").partition(" ")
            if kind.lower() != "bearer" or not text.strip():
                raise AccessDenied(
                    401, "unauthenticated", "The header Authorization must be `Bearer KEY` or `Bearer TOKEN`."
                )
            found.append(text.strip())
        elif name == b"x-api-key":
            found.append(value.decode("latin-1").strip())
    if not found:
        raise AccessDenied(401, "unauthenticated", "An API key or a bearer token is required.")
    if len(found) > 1:
        raise AccessDenied(401, "unauthenticated", "The request has several keys or tokens; send one.")
    return found[0]
