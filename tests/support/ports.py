"""Ports for servers that cannot listen on port 0 and say which port they got."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_FIRST = 10_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_EPHEMERAL = 32_768
_numbers = random.SystemRandom()


def free_ports(count: int = 1, host: str = "127.0.0.1") -> list[int]:
    """Return different ports on which nothing listens.

    The kernel gives them to nobody: they lie below the range from which it takes the ports of clients and of servers
    that ask for port 0. A port that it chose itself could be given away again before the server listens, and whenever
    a test stops the server for a while.

    Args:
        count: The number of ports.
        host: The address to listen on.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = _numbers.randrange(_FIRST, _first_ephemeral_port())
        if port not in ports and _is_free(host, port):
            ports.append(port)
    return ports


def _first_ephemeral_port() -> int:
    """Return the first port that the kernel may choose itself."""
    first = int(_EPHEMERAL_RANGE.read_text().split()[0]) if _EPHEMERAL_RANGE.exists() else _DEFAULT_EPHEMERAL
    return first if first > _FIRST + 1000 else 2**16


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
