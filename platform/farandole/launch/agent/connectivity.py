"""Connectivity of hosts to each other and to the launcher, on arbitrary ports, as workers need it."""

from __future__ import annotations

import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from farandole.launch.agent.addresses import launcher_address, own_address
from farandole.launch.agent.messages import Listening, send


def listen(request: dict[str, Any]) -> dict[str, Any]:
    """Accept connections on a free port until standard input ends.

    Args:
        request: `address`: the address to announce. Default: the one to which SSH connected.
    """
    with open_port() as server:
        address = request.get("address") or own_address()
        send(Listening(address, server.getsockname()[1]))
        sys.stdin.buffer.read()
    return {}


def open_port() -> socket.socket:
    """Return a listening socket whose connections are accepted by a thread until it is closed."""
    server = socket.create_server(("", 0), backlog=128)

    def accept() -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return  # the socket is closed

    threading.Thread(target=accept, name="accept", daemon=True).start()
    return server


def connect(request: dict[str, Any]) -> dict[str, Any]:
    """Try to connect to other hosts.

    Args:
        request: `targets`: by name, address and port; the launcher's address is null. `timeout_s`.

    Returns:
        `problems`: by name, why the connection failed.
    """

    def try_to_connect(target: tuple[str, list[Any]]) -> tuple[str, str | None]:
        name, (given, port) = target
        address = given or launcher_address()
        try:
            with socket.create_connection((address, port), timeout=request["timeout_s"]):
                return name, None
        except OSError as error:
            return name, f"{address} port {port}: {error.strerror or error}"

    targets = list(request["targets"].items())
    with ThreadPoolExecutor(max(len(targets), 1)) as pool:
        results = list(pool.map(try_to_connect, targets))
    return {"problems": {name: problem for name, problem in results if problem is not None}}
