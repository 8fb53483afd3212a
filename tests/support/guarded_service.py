"""A small service behind the HTTP guards, in uvicorn, on a port that the kernel chooses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from farandole.serving.access import BodyLimit, SecurityHeaders

MAX_BYTES = 100_000
_START_WITHIN_S = 60.0


def _app() -> FastAPI:
    app = FastAPI()

    @app.post("/length")
    async def length(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    @app.post("/parsed")
    async def parsed(rows: list[int]) -> dict[str, int]:
        return {"rows": len(rows)}

    return app


@contextmanager
def guarded_service(*, within_s: float = 30.0, **options: Any) -> Iterator[int]:
    """Serve until the block ends; yield the port."""
    is_tls = "ssl_certfile" in options
    app = SecurityHeaders(BodyLimit(_app(), max_bytes=MAX_BYTES, within_s=within_s), is_tls=is_tls)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", **options)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline_s = time.monotonic() + _START_WITHIN_S
        while not server.started:
            assert time.monotonic() < deadline_s
            assert thread.is_alive()
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
