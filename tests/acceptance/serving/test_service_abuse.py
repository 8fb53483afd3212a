"""A service under abuse: requests made from its OpenAPI document, and a mixed load of good and bad callers."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from farandole.bundle import Bundle
from tests.support.fuzz_bodies import arrow_seeds
from tests.support.served import OTHER_ROW, ROW, RunningService
from tests.support.service_clients import ask

SECONDS = float(os.environ.get("FARANDOLE_ABUSE_SECONDS", "30"))
"""Length of the mixed load; 600 for the ten minutes of a release."""
ROWS = {"rows": [ROW, OTHER_ROW]}
ARROW = arrow_seeds("flights")[0]
_FLAT_MB = 64


KEY_SCOPES = ("predict", "explain", "admin")
SERVICE_OPTIONS = ("--workers", "2", "--max-body", "0.2", "--max-request-time", "2")


@pytest.mark.slow(seconds=90)
@pytest.mark.timeout(600)
def test_requests_made_from_the_openapi_document_find_no_server_error(
    service: RunningService, bundle: Bundle, key: str, tmp_path: Path
) -> None:
    report = tmp_path / "junit.xml"
    names = f'[parameters]\n"path.model" = "flights"\n"path.version" = "{bundle.digest[7:19]}"\n'
    (tmp_path / "schemathesis.toml").write_text(names)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {key}", "--checks", "not_a_server_error", "--phases", "fuzzing"),
        *("--max-examples", "40", "--seed", "1", "--report", "junit", "--report-junit-path", str(report), "--no-color"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "POST /v2/models/{model}/infer" in report.read_text()
    assert service.events("internal_error") == []


class Abuse:
    """Callers of every kind, each of which counts what it is answered.

    Args:
        url: The service.
        key: A key for everything.
        expected: The right answer to a good request.
    """

    def __init__(self, url: str, key: str, expected: list[float]) -> None:
        self.url, self.key, self.expected = url, key, expected
        self.statuses: dict[str, Counter[int]] = {}
        self.wrong: list[str] = []
        self.end_s = time.monotonic() + SECONDS

    def run(self, at_half_time: Callable[[], None]) -> None:
        bad = [self.malformed, self.damaged, self.oversized, self.slow, self.unauthorised]
        callers = [self.good, self.good, self.good, *bad]
        threads = [threading.Thread(target=self._repeat, args=(caller,)) for caller in callers]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 2)
        at_half_time()
        for thread in threads:
            thread.join()

    def _repeat(self, caller: Callable[[], int]) -> None:
        while time.monotonic() < self.end_s:
            try:
                status = caller()
            except OSError:  # the service closes a connection whose body it does not want
                status = 0
            self.statuses.setdefault(caller.__name__, Counter())[status] += 1

    def good(self) -> int:
        answer = ask(self.url, "/predict", ROWS, key=self.key)
        found = [row["probability"] for row in answer.json["predictions"]] if answer.status == 200 else None
        if found != self.expected:
            self.wrong.append(f"{answer.status}: {answer.body[:200]!r}")
        return answer.status

    def malformed(self) -> int:
        body = bytearray(json.dumps(ROWS).encode())
        for _ in range(random.randint(1, 8)):
            body[random.randrange(len(body))] = random.randrange(256)
        return ask(self.url, "/predict", body=bytes(body), key=self.key).status

    def damaged(self) -> int:
        body = bytearray(ARROW)
        for _ in range(random.randint(1, 3)):
            body[random.randrange(len(body))] ^= 1 << random.randrange(8)
        body = body[: random.choice([len(body), random.randrange(len(body))])]
        headers = {"content-type": "application/vnd.apache.arrow.stream"}
        return ask(self.url, "/predict", body=bytes(body), key=self.key, headers=headers).status

    def oversized(self) -> int:
        return ask(self.url, "/predict", body=b"[" * 400_000, key=self.key).status

    def unauthorised(self) -> int:
        return ask(self.url, "/predict", ROWS, key=random.choice([None, "wrong", "x" * 1000])).status

    def slow(self) -> int:
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\n")
            return int(connection.recv(65536).split()[1])


@pytest.mark.slow(seconds=40)
@pytest.mark.timeout(1200)
def test_good_requests_among_bad_ones_are_answered_right_and_memory_stays_flat(
    service: RunningService, bundle: Bundle, key: str
) -> None:
    columns = {name: [ROW[name], OTHER_ROW[name]] for name in ROW}
    expected = bundle.predictor("eager").predict(columns)["probability"].tolist()
    url = service.url
    workers = [psutil.Process(pid) for pid in service.worker_pids()]
    for _ in range(200):  # what is loaded by a first request does not count as growth
        ask(url, "/predict", ROWS, key=key)
    memory_mb: list[list[float]] = []

    def measure() -> None:
        memory_mb.append([round(worker.memory_info().rss / 2**20, 1) for worker in workers])

    measure()
    abuse = Abuse(url, key, expected)
    abuse.run(measure)
    measure()
    print(json.dumps({"seconds": SECONDS, "statuses": abuse.statuses, "memory_mb": memory_mb}))  # pytest -rP shows it
    assert abuse.wrong == []
    assert set(abuse.statuses) == {"good", "malformed", "damaged", "oversized", "slow", "unauthorised"}
    assert set(abuse.statuses["good"]) == {200}
    assert set(abuse.statuses["malformed"]) <= {200, 400, 422}
    assert set(abuse.statuses["damaged"]) <= {200, 400, 413, 422}
    assert set(abuse.statuses["oversized"]) <= {413, 0}
    assert set(abuse.statuses["slow"]) == {408}
    assert set(abuse.statuses["unauthorised"]) == {401}
    before_mb, _, after_mb = memory_mb
    assert [after - before < _FLAT_MB for before, after in zip(before_mb, after_mb, strict=True)] == [True, True]
    assert service.events("worker_died") == []
    assert service.events("internal_error") == []
