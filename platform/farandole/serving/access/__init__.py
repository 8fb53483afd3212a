"""Access control of the service: API keys, bearer tokens, limits, the audit log, and TLS."""

from __future__ import annotations

from farandole.serving.access.allowances import Rate, parse_expiry, parse_rate
from farandole.serving.access.audit_chain import AuditReport, verify_audit
from farandole.serving.access.callers import SCOPES, AccessDenied, Caller, Scope
from farandole.serving.access.gate import Access, AccessConfig, access_directory, open_directory
from farandole.serving.access.key_store import KEYS_VARIABLE, KeyRecord, KeyStore
from farandole.serving.access.security_headers import ONE_YEAR_S, SECURITY_HEADERS, security_headers
from farandole.serving.access.server_secret import SECRET_VARIABLE, read_secret
from farandole.serving.access.tls import TlsFiles, certificate_name
from farandole.serving.access.tokens import ALGORITHMS, TokenRules

__all__ = [
    "ALGORITHMS",
    "KEYS_VARIABLE",
    "ONE_YEAR_S",
    "SCOPES",
    "SECRET_VARIABLE",
    "SECURITY_HEADERS",
    "Access",
    "AccessConfig",
    "AccessDenied",
    "AuditReport",
    "Caller",
    "KeyRecord",
    "KeyStore",
    "Rate",
    "Scope",
    "TlsFiles",
    "TokenRules",
    "access_directory",
    "certificate_name",
    "open_directory",
    "parse_expiry",
    "parse_rate",
    "read_secret",
    "security_headers",
    "verify_audit",
]
