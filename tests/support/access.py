"""Keys, headers and services for tests of access control."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farandole.serving.access import Access, AccessConfig, Caller, KeyStore, Scope, open_directory, read_secret

MODEL = {"model": "flights", "version": "3", "digest": "sha256:" + "0" * 64}


def key_store(directory: Path) -> KeyStore:
    """Return the keys of an access directory, which is created."""
    open_directory(directory)
    return KeyStore(directory, read_secret(directory, create=True))


def make_key(directory: Path, name: str = "web", scopes: tuple[Scope, ...] = ("predict",), **options: Any) -> str:
    """Make a key, and return it."""
    return key_store(directory).create(name, list(scopes), **options)[0]


def open_access(directory: Path, **options: Any) -> Access:
    """Open access control as a worker of a service does."""
    return Access.open(AccessConfig(directory=directory, **options))


def bearer(credential: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request with a key or token."""
    return [(b"host", b"localhost"), (b"authorization", f"Bearer {credential}".encode())]


def authorize(access: Access, credential: str, scope: Scope = "predict") -> Caller:
    """Authorize one request."""
    return asyncio.run(access.authorize(bearer(credential), scope))


def record(access: Access, caller: Caller, action: str, status: int, **fields: Any) -> None:
    """Record one answer."""
    asyncio.run(access.record(caller, action, status, **fields))


def avoid_midnight(margin_s: float = 120.0) -> None:
    """Wait until the day (UTC) has begun if it ends soon: daily quotas begin again."""
    left_s = 86_400 - time.time() % 86_400
    if left_s < margin_s:
        time.sleep(left_s + 1)


@contextmanager
def full_after(path: Path, num_bytes: int) -> Iterator[None]:
    """Let a file accept only a few more bytes, as a disk that is nearly full: the kernel cuts the write off there."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
