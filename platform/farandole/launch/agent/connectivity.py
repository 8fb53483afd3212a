"""Whether hosts reach each other and the launcher, on ports that nobody knows beforehand, as workers need it."""

from __future__ import annotations

import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from farandole.launch.agent.addresses import launcher_address, own_address
from farandole.process.messages import send_message


def listen(request: dict[str, Any]) -> dict[str, Any]:
    """Accept connections on a free port until the launcher's side of standard input ends."""
    with open_port() as server:
        address = request.get("address") or own_address()
        send_message({"event": "listening", "address": address, "port": server.getsockname()[1]})
        sys.stdin.buffer.read()
    return {}


def open_port() -> socket.socket:
    """A listening socket that accepts whoever comes, in a thread that ends with it."""
    server = socket.create_server(("", 0), backlog=128)

    def accept() -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return  # it is closed

    threading.Thread(target=accept, name="accept", daemon=True).start()
    return server


def connect(request: dict[str, Any]) -> dict[str, Any]:
    """Try to reach others.

    Args:
        request: `targets`: name to address and port; the launcher's address is null. `timeout_s`.

    Returns:
        `problems`: name to reason.
    """

    def reach(target: tuple[str, list[Any]]) -> tuple[str, str | None]:
        name, (given, port) = target
        address = given or launcher_address()
        try:
            with socket.create_connection((address, port), timeout=request["timeout_s"]):
                return name, None
        except OSError as error:
            return name, f"{address} port {port}: {error.strerror or error}"

    targets = list(request["targets"].items())
    with ThreadPoolExecutor(max(len(targets), 1)) as pool:
        found = list(pool.map(reach, targets))
    return {"problems": {name: problem for name, problem in found if problem is not None}}
