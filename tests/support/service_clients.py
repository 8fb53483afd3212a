"""Clients of a running service: single requests, and steady load whose every failure counts."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """An answer of the service."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as data."""
        return json.loads(self.body)


def ask(
    url: str,
    path: str,
    document: Any = None,
    *,
    key: str | None = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request: GET without a body, otherwise POST."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    sent = {"content-type": "application/json", **(headers or {})}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    if document is not None:
        body = json.dumps(document).encode()
    try:
        connection.request("GET" if body is None else "POST", path, body, sent)
        return _read(connection)
    finally:
        connection.close()


def _read(connection: http.client.HTTPConnection) -> Answer:
    found = connection.getresponse()
    return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())


@dataclass
class Load:
    """Clients that send the same request again and again, each over one connection.

    Args:
        url: The service.
        document: The body.
        clients: Their number.
        key: Their key.
        reconnects: Whether they open another connection where one was closed or refused: others of the service answer.
    """

    url: str
    document: Any
    clients: int = 4
    key: str | None = None
    reconnects: bool = False
    answers: list[Answer] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Requests that were sent and not answered."""

    def __enter__(self) -> Load:
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        parts = urlsplit(self.url)
        body, headers = json.dumps(self.document).encode(), {"content-type": "application/json"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        while not self._ending.is_set():
            try:
                connection.request("POST", "/predict", body, headers)
                answer = _read(connection)
            except ConnectionRefusedError as error:
                if not self.reconnects:
                    return
                self.lost.append(f"refused: {error}")
                continue
            except (http.client.HTTPException, OSError) as error:
                self.lost.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            self.answers.append(answer)
            if answer.status == 503:
                connection.close()
            elif answer.headers.get("connection") == "close":
                if not self.reconnects:
                    return  # the service is ending
                connection.close()
        connection.close()
