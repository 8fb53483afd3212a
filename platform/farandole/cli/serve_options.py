"""Options of `farandole serve` that are checked together."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Literal

from farandole.errors import UnavailableError, UserError

_LIBRARIES = ("fastapi", "uvicorn", "httptools", "uvloop", "orjson", "prometheus_client", "joserfc")


def require_libraries() -> None:
    """Check that the libraries of the service are installed.

    Raises:
        UnavailableError: One is missing.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"farandole serve needs {', '.join(missing)}, which are not installed; pip install 'farandole[serve]'"
        )


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def not_a_number(policy: str) -> Literal["refuse", "missing"]:
    """Return the policy for NaN.

    Raises:
        UserError: There is no such policy.
    """
    if policy == "refuse":
        return "refuse"
    if policy == "missing":
        return "missing"
    raise UserError(f"--nan: {policy!r}: write refuse, or missing")


def access(directory: Path | None, audit: str, tokens: dict[str, Any] | None) -> dict[str, Any]:
    """Return the options of access control.

    Raises:
        UserError: The policy of the audit log does not exist.
    """
    from farandole.serving.access import access_directory

    if audit not in ("on", "off", "required"):
        raise UserError(f"--audit: {audit!r}: write on, off or required")
    options: dict[str, Any] = {
        "directory": str((directory or access_directory()).absolute()),
        "audit": audit != "off",
        "audit_required": audit == "required",
    }
    return {**options, "tokens": tokens} if tokens else options


def tokens(
    issuer: str | None,
    audience: str | None,
    keys: str | None,
    authority: Path | None,
    roles_claim: str,
    *,
    rate: str | None = None,
    daily_rows: int | None = None,
) -> dict[str, Any] | None:
    """Return the rules for bearer tokens; None: they are not accepted.

    Raises:
        UserError: Options are incomplete, or the rate is not one.
    """
    from farandole.serving.access import parse_rate

    needed = {"issuer": issuer, "audience": audience, "keys": keys}
    others = {"ca": authority, "rate": rate, "daily-rows": daily_rows}
    if not any((*needed.values(), *others.values())):
        return None
    missing = [f"--oidc-{name}" for name, value in needed.items() if not value]
    if missing:
        raise UserError(f"{missing[0]}: is missing; tokens need --oidc-issuer, --oidc-audience and --oidc-keys")
    return {
        **needed,
        "authority": str(authority.absolute()) if authority else None,
        "roles_claim": roles_claim,
        "rate": str(parse_rate(rate, "--oidc-rate")) if rate else None,
        "daily_rows": daily_rows,
    }


def tls(certificate: Path | None, key: Path | None, client_authority: Path | None) -> dict[str, str | None]:
    """Return the files for TLS, checked; nothing for plain HTTP.

    Raises:
        UserError: A file is missing or wrong.
    """
    from farandole.serving.access import TlsFiles

    if certificate is None and key is None and client_authority is None:
        return {}
    if certificate is None or key is None:
        raise UserError("--tls-cert, --tls-key: name both files")
    TlsFiles(certificate, key, client_authority=client_authority).check()
    files = {"certificate": certificate, "key": key, "client_authority": client_authority}
    return {name: str(path.absolute()) if path else None for name, path in files.items()}


def port_number(port: int) -> int:
    """Return the port.

    Raises:
        UserError: It is not one.
    """
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port}: is not a port; choose one from 1 to 65535, or 0 for any free one")
    return port
