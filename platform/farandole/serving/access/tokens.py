"""Bearer tokens of an identity provider (OpenID Connect): signature, issuer, audience, times, and roles as scopes."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.errors import UnavailableError, UserError
from farandole.serving.access.allowances import Rate
from farandole.serving.access.callers import SCOPES, AccessDenied, Caller, Scope, not_valid
from farandole.serving.access.token_keys import TokenKeys

if TYPE_CHECKING:
    from joserfc.jwk import Key

ALGORITHMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA",)),
    **dict.fromkeys(("ES256", "ES384", "ES512"), ("EC",)),
    **dict.fromkeys(("Ed25519", "EdDSA"), ("OKP",)),
}
"""Signatures by a private key, and the types of keys for each. Never HMAC or `none`: a public key would sign those."""

_MAX_TOKEN = 16 * 1024
_MAX_CACHED = 4096
_CACHED_S = 60.0


@dataclass(frozen=True)
class TokenRules:
    """Rules that a token must satisfy.

    Args:
        issuer: The claim `iss`.
        audience: One of the values of the claim `aud`.
        keys: The provider's JWK set: an https URL or a file.
        algorithms: Signatures that are accepted, names of `ALGORITHMS`.
        leeway_s: By how many seconds the provider's clock and this one may differ.
        roles_claim: The claim with the roles: a list of texts, or a text with spaces between them; dots lead into
            objects, as in `realm_access.roles`.
        scopes_by_role: The scope that a role gives; by default a role of the same name does.
        rate: Limit of requests of each subject; None: no limit.
        daily_rows: Limit of rows of each subject in a day (UTC); None: no limit.
        authority: PEM: the certificates of the only authorities that may vouch for the keys' server; None: those that
            this machine trusts.

    Raises:
        UserError: An algorithm or a scope does not exist, or a value is empty.
    """

    issuer: str
    audience: str
    keys: str
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "ES384", "Ed25519")
    leeway_s: int = 60
    roles_claim: str = "roles"
    scopes_by_role: Mapping[str, Scope] = field(default_factory=lambda: {scope: scope for scope in SCOPES})
    rate: Rate | None = None
    daily_rows: int | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        for name in ("issuer", "audience", "keys", "roles_claim"):
            if not getattr(self, name):
                raise UserError(f"tokens.{name}: is empty; tokens cannot be checked without it")
        unknown = [name for name in self.algorithms if name not in ALGORITHMS]
        if unknown or not self.algorithms:
            raise UserError(
                f"tokens.algorithms: {', '.join(unknown) or 'none'}: a token must be signed with a private key;"
                f" choose among {', '.join(ALGORITHMS)}"
            )
        for role, scope in self.scopes_by_role.items():
            if scope not in SCOPES:
                raise UserError(
                    f"tokens.scopes_by_role: {role}: {scope}: there is no such scope; use {', '.join(SCOPES)}"
                )
        if not 0 <= self.leeway_s <= 600:
            raise UserError(f"tokens.leeway_s: {self.leeway_s}: allow 0 to 600 s; correct the clocks instead")


class TokenVerifier:
    """Verifier of tokens in one worker; tokens that were verified are remembered for a minute.

    Args:
        rules: What a token must be.
        directory: The access directory.

    Raises:
        UserError: The keys' location cannot be used.
        UnavailableError: The keys cannot be read, or joserfc is not installed.
    """

    def __init__(self, rules: TokenRules, directory: Path) -> None:
        try:
            import joserfc  # noqa: F401
        except ImportError as error:
            raise UnavailableError(
                "joserfc is not installed, and bearer tokens need it; `pip install 'farandole[serve]'`"
            ) from error
        self._rules = rules
        self._keys = TokenKeys(rules.keys, directory, rules.authority)
        self._verified: dict[bytes, tuple[_Identity, float]] = {}
        self._version = self._keys.version

    async def verify(self, token: str) -> Caller:
        """Return the caller that a token identifies.

        Raises:
            AccessDenied: The token is not valid, not any more, or not yet (401).
        """
        self._keys.refresh_if_old()
        if self._version != self._keys.version:  # a key may have been withdrawn
            self._verified.clear()
            self._version = self._keys.version
        digest = hashlib.sha256(token.encode()).digest()
        identity, until_s = self._verified.get(digest, (None, 0.0))
        if identity is None or until_s < time.monotonic():
            identity = await self._identify(token)
            if len(self._verified) >= _MAX_CACHED:
                self._verified.clear()
            self._verified[digest] = identity, time.monotonic() + _CACHED_S
        self._check_times(identity)
        return identity.caller

    def close(self) -> None:
        """Forget the tokens."""
        self._verified.clear()

    async def _identify(self, token: str) -> _Identity:
        """Check everything about a token but its times."""
        key, algorithm = await self._key(token)
        claims = _claims(token, key, algorithm)
        rules = self._rules
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        subject = claims.get("sub")
        if claims.get("iss") != rules.issuer or rules.audience not in audiences:
            raise not_valid()
        if not isinstance(subject, str) or not 0 < len(subject) <= 256 or not subject.isprintable():
            raise not_valid()
        expires_s, starts_s = _time(claims, "exp"), _time(claims, "nbf")
        issued_s = _time(claims, "iat")
        if expires_s is None:
            raise not_valid()
        scopes = frozenset(
            rules.scopes_by_role[role] for role in _roles(claims, rules.roles_claim) if role in rules.scopes_by_role
        )
        caller = Caller(f"token:{subject}", subject, scopes, rules.rate, rules.daily_rows)
        return _Identity(caller, max(starts_s or 0.0, issued_s or 0.0), expires_s)

    async def _key(self, token: str) -> tuple[Key, str]:
        """Return the key that signed a token, if its header is true, and the algorithm."""
        header = _header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._rules.algorithms or not isinstance(key_id, str | None) or "crit" in header:
            raise not_valid()
        key = self._keys.find(key_id, algorithm, ALGORITHMS[algorithm])
        if key is None:
            await self._keys.refresh()
            key = self._keys.find(key_id, algorithm, ALGORITHMS[algorithm])
        if key is None:
            raise not_valid()
        return key, algorithm

    def _check_times(self, identity: _Identity) -> None:
        """Refuse a token whose time has passed or has not come; the text helps to find a clock that is wrong."""
        now_s, leeway_s = time.time(), self._rules.leeway_s
        clock = f"the service's clock shows {_text(now_s)}"
        if now_s >= identity.expires_s + leeway_s:
            message = f"The token expired at {_text(identity.expires_s)}; {clock}."
            raise AccessDenied(401, "token_expired", message, caller=identity.caller)
        if now_s < identity.starts_s - leeway_s:
            message = f"The token is valid from {_text(identity.starts_s)}; {clock}. One of the two clocks is wrong."
            raise AccessDenied(401, "token_not_yet_valid", message, caller=identity.caller)


@dataclass(frozen=True)
class _Identity:
    """Content of a verified token: who, from when and until when, in seconds since 1970."""

    caller: Caller
    starts_s: float
    expires_s: float


def _header(token: str) -> dict[str, Any]:
    if len(token) > _MAX_TOKEN or token.count(".") != 2:
        raise not_valid()
    segment = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (ValueError, RecursionError) as error:
        raise not_valid() from error
    if not isinstance(header, dict):
        raise not_valid()
    return header


def _claims(token: str, key: Key, algorithm: str) -> dict[str, Any]:
    from joserfc import jwt
    from joserfc.errors import JoseError

    try:
        return jwt.decode(token, key, algorithms=[algorithm]).claims
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise not_valid() from error


def _time(claims: dict[str, Any], name: str) -> float | None:
    """Return a claim that is a time, in seconds since 1970; None if it is missing."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise not_valid()
    return float(value)


def _roles(claims: dict[str, Any], path: str) -> list[str]:
    # A claim may have dots in its own name, as in `https://example.org/roles`.
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value.split()
    return [role for role in value if isinstance(role, str)] if isinstance(value, list) else []


def _text(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
