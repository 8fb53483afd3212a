"""Callers of the service, what they may do, and the refusals that they receive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from farandole.serving.access.allowances import Rate

Scope = Literal["predict", "explain", "admin"]

SCOPES: tuple[Scope, ...] = ("predict", "explain", "admin")
"""Kinds of requests that a key or a token permits. No scope includes another one."""


class AccessDenied(Exception):  # noqa: N818 - a refusal is an answer to the caller, not a failure of the service
    """The request is refused; the answer may contain `public_message`, and nothing else about the reason.

    Args:
        status: The HTTP status: 401 (who is it?), 403 (must not), 429 (too much), 503 (cannot be decided now).
        code: A word for programs and metrics: `unauthenticated`, `key_expired`, `rate_limited`, ...
        public_message: A sentence for the caller. Without a valid key it names neither models nor keys.
        retry_after_s: Seconds after which the same request may succeed; None: waiting does not help.
        caller: Who was refused; None: nobody who could prove it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        public_message: str,
        *,
        retry_after_s: int | None = None,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(public_message)
        self.status = status
        self.code = code
        self.public_message = public_message
        self.retry_after_s = retry_after_s
        self.caller = caller

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that belong to the answer: `WWW-Authenticate` (RFC 6750) and `Retry-After`."""
        found = {}
        if self.status == 401:
            found["WWW-Authenticate"] = 'Bearer realm="farandole"'
        if self.retry_after_s is not None:
            found["Retry-After"] = str(self.retry_after_s)
        return found


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose key or token was checked.

    Args:
        id: Identifies the caller in limits and in the audit log: `key:4f1d…`, `token:SUBJECT`.
        name: The key's name, or the token's subject.
        scopes: What the caller may do.
        rate: Limit of requests; None: no limit.
        daily_rows: Limit of rows in a day (UTC); None: no limit.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    rate: Rate | None = None
    daily_rows: int | None = None

    def require(self, scope: Scope) -> None:
        """Refuse a caller without a scope.

        Raises:
            AccessDenied: The caller lacks the scope (403).
        """
        if scope not in self.scopes:
            raise AccessDenied(403, "scope_missing", f"The key or token lacks the scope {scope}.", caller=self)


def not_valid() -> AccessDenied:
    """Return the refusal of every key or token that cannot be verified, whatever the reason."""
    return AccessDenied(401, "unauthenticated", "The key or token is not valid.")


def unavailable(code: str, caller: Caller | None = None, *, retry_after_s: int = 5) -> AccessDenied:
    """Return the refusal of a request that cannot be decided or recorded now."""
    message = "The service cannot answer at present."
    return AccessDenied(503, code, message, retry_after_s=retry_after_s, caller=caller)
