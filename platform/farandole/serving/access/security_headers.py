"""Headers that protect a browser from what a service, or somebody in its name, may answer."""

from __future__ import annotations

SECURITY_HEADERS: dict[str, str] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
"""Headers of every answer, in lower case. Answers are data, so they may load nothing; the page sets its own policy."""

ONE_YEAR_S = 365 * 24 * 3600


def security_headers(*, tls: bool, hsts_s: int = ONE_YEAR_S) -> dict[str, str]:
    """Return the headers of every answer of a service.

    Args:
        tls: Whether the service is reached by TLS. Then browsers learn to use nothing else (RFC 6797); over plain HTTP
            they would ignore that header.
        hsts_s: For how long they remember it, in seconds; 0: the header is left out.
    """
    if not (tls and hsts_s):
        return dict(SECURITY_HEADERS)
    return {**SECURITY_HEADERS, "strict-transport-security": f"max-age={hsts_s}"}
