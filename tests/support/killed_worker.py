"""A worker that is killed at each line of Python on the way of a request, and what its caller receives.

Run as a program, which forks: `python -m tests.support.killed_worker DIRECTORY STEP` takes every STEP-th line. It
prints JSON: one list for each line, of the statuses that the caller read for its two requests; 0 stands for an answer
that broke off or never came.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvloop

from farandole.serving.service import connection_keeper
from farandole.serving.service.connection_keeper import ConnectionKeeper
from farandole.serving.service.connections import ConnectionBoard
from farandole.serving.service.server import DrainingServer, make_config
from farandole.serving.service.settings import RequestLimits
from tests.support.paths import ROOT

BODY = b'{"prediction": 0.5}'
_REQUEST = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
_TRACED = ("server.py", "answer_transport.py", "connections.py", "httptools_impl.py")
_END_S = 60.0


async def answer(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Answer as an ASGI application, with head and body apart."""
    await receive()
    headers = [(b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY, "more_body": False})


def _kill_at(line: int) -> None:
    """Let this process kill itself at a line, counted from the first bytes of the first request."""
    count = 0
    is_counting = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count, is_counting
        if not frame.f_code.co_filename.endswith(_TRACED):
            return None
        is_counting = is_counting or frame.f_code.co_name == "data_received"
        if is_counting and event == "line":
            count += 1
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def _serve(path: Path, channel: socket.socket, listener: socket.socket, line: int) -> None:
    board = ConnectionBoard(path, channel)
    server = DrainingServer(make_config(answer, RequestLimits(), 10, {}, board), 0, lambda: None)
    _kill_at(line)
    uvloop.run(server.serve(sockets=[listener]))


def statuses(directory: Path, line: int) -> list[int]:
    """Return what a caller receives for two requests, the worker being killed at a line, or after both."""
    path = directory / f"connections-{line}"
    keeper = ConnectionKeeper(path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = os.fork()
        if worker == 0:
            _serve(path, keeper.worker_end, listener, line)
        keeper.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=_END_S) as caller:
                found = [_ask(caller)]
                if found == [200]:
                    found.append(_ask(caller))
        finally:
            os.kill(worker, signal.SIGKILL)  # it may wait for another request, and is a zombie otherwise
            os.waitpid(worker, 0)
            keeper.finish()
    path.unlink()
    return found


def _ask(caller: socket.socket) -> int:
    caller.sendall(_REQUEST)
    received = b""
    while b"\r\n\r\n" not in received:
        if not (part := caller.recv(65536)):
            return 0
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    (length,) = (int(each[16:]) for each in head.split(b"\r\n") if each.startswith(b"content-length: "))
    while len(body) < length:
        if not (part := caller.recv(65536)):
            return 0
        body += part
    return int(head.split()[1]) if len(body) == length else 0


def statuses_of_killed_workers(directory: Path, step: int) -> list[list[int]]:
    """Run this program, whose single thread may fork, and return what it prints."""
    command = [sys.executable, "-m", "tests.support.killed_worker", str(directory), str(step)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[int]] = json.loads(done.stdout)
    return found


def main() -> None:
    """Kill workers at every line until one outlives both requests."""
    directory, step = Path(sys.argv[1]), int(sys.argv[2])
    connection_keeper._GRACE_S = _END_S  # on a busy machine, the caller may send its second request late
    found: list[list[int]] = []
    while not found or found[-1] != [200, 200]:
        found.append(statuses(directory, len(found) * step + 1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
