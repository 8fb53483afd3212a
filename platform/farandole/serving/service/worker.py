"""A worker process of the service: `python -m farandole.serving.service.worker DIRECTORY SOCKET CHANNEL NUMBER`.

The supervisor passes it the listening socket, a channel for connections, and a directory with the settings and the
deployment. The worker reads the deployment again whenever that file changes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
import uvloop

from farandole.errors import FarandoleError
from farandole.process.parent_death import named_parent, signal_on_parent_death
from farandole.serving.access import Access, AccessConfig, TlsFiles, TokenRules, parse_rate
from farandole.serving.service.app import make_app
from farandole.serving.service.connections import ConnectionBoard, board_file
from farandole.serving.service.endpoints import Endpoints
from farandole.serving.service.logs import JsonLog
from farandole.serving.service.metrics import Metrics
from farandole.serving.service.server import DrainingServer, make_config
from farandole.serving.service.settings import DEPLOYMENT, SETTINGS, ServiceSettings, read_deployment
from farandole.serving.service.table import ModelTable
from farandole.serving.service.traces import configured_tracer

_WATCH_S = 0.5


def ready_file(directory: Path, pid: int) -> Path:
    """Return the file that exists once a worker answers requests."""
    return directory / f"ready-{pid}"


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    signal_on_parent_death(signal.SIGTERM)
    if not named_parent().is_alive:
        return 1
    directory, descriptor, channel, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    log = JsonLog(name=f"worker {number}")
    torch.set_num_threads(1)
    try:
        settings = ServiceSettings.from_json((directory / SETTINGS).read_text(encoding="utf-8"))
        board = ConnectionBoard(board_file(directory, number), socket.socket(fileno=channel))
        uvloop.run(_serve(settings, directory, socket.socket(fileno=descriptor), board, log))
    except FarandoleError as error:
        log.write("worker_failed", level="error", error=str(error))
        return error.exit_code
    return 0


async def _serve(
    settings: ServiceSettings, directory: Path, listener: socket.socket, board: ConnectionBoard, log: JsonLog
) -> None:
    metrics = Metrics(directory, lambda: table.watched())
    table = ModelTable(settings, metrics, log, directory, settings.public_key)
    access = _open_access(settings)
    tracer = configured_tracer()
    endpoints = Endpoints(settings, table, access, metrics, log)
    await table.apply(read_deployment(directory))

    def drain() -> None:
        endpoints.is_draining = True
        log.write("draining")

    config = make_config(
        make_app(endpoints, tracer), settings.limits, settings.batches.deadline_s, _tls_options(settings), board
    )
    server = DrainingServer(config, settings.drain_s, drain)
    endpoints.is_ready = True
    watching = asyncio.create_task(_watch(server, table, directory, board, log))
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
        await table.drain()
        if access is not None:
            access.close()
        if tracer is not None:
            tracer.close()
        log.write("ended")


async def _watch(
    server: DrainingServer, table: ModelTable, directory: Path, board: ConnectionBoard, log: JsonLog
) -> None:
    """Report that the worker is ready, and follow the deployment."""
    while not server.started:
        await asyncio.sleep(0.01)
    ready_file(directory, os.getpid()).touch()
    changed = None
    while True:
        await asyncio.sleep(_WATCH_S)
        log.flush()
        board.send_ends()
        table.write_payload()
        now_changed = (directory / DEPLOYMENT).stat().st_mtime_ns
        if now_changed != changed:
            changed = now_changed
            deployment = read_deployment(directory)
            if deployment.generation != table.generation:
                await table.reload(deployment)


def _open_access(settings: ServiceSettings) -> Access | None:
    if settings.is_open:
        return None
    options: dict[str, Any] = dict(settings.access)
    tokens = options.pop("tokens", None)
    options["directory"] = Path(options["directory"])
    return Access.open(AccessConfig(tokens=_token_rules(tokens) if tokens else None, **options))


def _token_rules(options: dict[str, Any]) -> TokenRules:
    """Return the rules that plain options describe."""
    rate, authority, algorithms = (options.get(name) for name in ("rate", "authority", "algorithms"))
    return TokenRules(
        **{
            **options,
            "rate": parse_rate(rate, "--oidc-rate") if rate else None,
            "authority": Path(authority) if authority else None,
            "algorithms": tuple(algorithms or TokenRules.algorithms),
        }
    )


def _tls_options(settings: ServiceSettings) -> dict[str, Any]:
    if not settings.tls:
        return {}
    return TlsFiles(**{name: Path(path) for name, path in settings.tls.items() if path}).uvicorn_options()


if __name__ == "__main__":
    sys.exit(main())
