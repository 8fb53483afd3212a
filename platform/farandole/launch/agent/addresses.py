"""By which addresses this host and the launcher reach each other: those of the SSH connection between them.

Horovod's own launcher finds them by starting a server on each host, which takes seconds, and puts the key of that
server on command lines.
"""

from __future__ import annotations

import os

import psutil


def own_address() -> str | None:
    """The address of this host to which the launcher's SSH connects; None: this process was not started by SSH."""
    parts = os.environ.get("SSH_CONNECTION", "").split()
    return _plain(parts[2]) if len(parts) == 4 else None


def launcher_address() -> str | None:
    """The address from which the launcher's SSH comes; None: this process was not started by SSH."""
    parts = os.environ.get("SSH_CONNECTION", "").split()
    return _plain(parts[0]) if len(parts) == 4 else None


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has an address."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return str(name)
    return None


def _plain(address: str) -> str:
    """IPv4 addresses as they are, also where SSH writes them as IPv6."""
    return address.removeprefix("::ffff:")
