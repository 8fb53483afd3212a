"""Addresses of this host and of the launcher, as SSH knows them.

Horovod's own launcher finds them by starting a server on each host, which takes seconds, and puts the server's key on
command lines.
"""

from __future__ import annotations

import os

import psutil


def own_address() -> str | None:
    """Return the address of this host to which the launcher's SSH connects; None if SSH did not start this process."""
    parts = os.environ.get("SSH_CONNECTION", "").split()
    return _unmapped(parts[2]) if len(parts) == 4 else None


def launcher_address() -> str | None:
    """Return the address from which the launcher's SSH connects; None if SSH did not start this process."""
    parts = os.environ.get("SSH_CONNECTION", "").split()
    return _unmapped(parts[0]) if len(parts) == 4 else None


def interface_of(address: str) -> str | None:
    """Return the network interface of this machine that has an address; None if none has it."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return str(name)
    return None


def _unmapped(address: str) -> str:
    """Return the IPv4 address behind an IPv4-mapped IPv6 address."""
    return address.removeprefix("::ffff:")
