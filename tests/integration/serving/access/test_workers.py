"""Several workers of one service, as processes: shared limits, one audit chain, and what is left after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farandole.serving.access import read_secret, verify_audit
from tests.support.access import avoid_midnight, make_key
from tests.support.paths import SUPPORT

Worker = subprocess.Popen[str]


@contextmanager
def _workers(directory: Path, key: str, count: int, *, num_requests: int, rows: int = 1) -> Iterator[list[Worker]]:
    """Start workers that are ready to serve; those that still run at the end are killed."""
    command = [sys.executable, str(SUPPORT / "access_worker.py"), str(directory), str(num_requests), str(rows)]
    workers = []
    try:
        for _ in range(count):
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            workers.append(worker)
            _send(worker, key)
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _send(worker: Worker, line: str) -> None:
    worker.stdin.write(line + "\n")
    worker.stdin.flush()


def _outcomes(workers: list[Worker]) -> Counter[str]:
    for worker in workers:
        _send(worker, "start")
    lines = [line for worker in workers for line in worker.communicate(timeout=120)[0].splitlines()]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return Counter(line.partition(" ")[0] for line in lines)


def _recorded(directory: Path) -> list[str]:
    lines = (directory / "audit.jsonl").read_text().splitlines()
    return [entry["request"] for entry in map(json.loads, lines) if "request" in entry]


def test_workers_share_the_rate(tmp_path: Path) -> None:
    key = make_key(tmp_path, rate="100/h")
    with _workers(tmp_path, key, 3, num_requests=100) as workers:
        outcomes = _outcomes(workers)
    # The bucket gains 100 tokens an hour: one or two may come during a test that takes a minute.
    assert 100 <= outcomes["ok"] <= 110
    assert outcomes["ok"] + outcomes["rate_limited"] == 300


def test_workers_share_the_daily_quota(tmp_path: Path) -> None:
    avoid_midnight()
    key = make_key(tmp_path, daily_rows=1000)
    with _workers(tmp_path, key, 3, num_requests=50, rows=10) as workers:
        outcomes = _outcomes(workers)
    assert outcomes == {"ok": 100, "quota_exhausted": 50}


def test_workers_write_one_chain(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with _workers(tmp_path, key, 3, num_requests=300) as workers:
        assert _outcomes(workers) == {"ok": 900}
    report = verify_audit(tmp_path, read_secret(tmp_path, create=False))
    assert (report.is_intact, report.lines, report.unclosed) == (True, 900 + 2 * 3, ())
    assert len(set(_recorded(tmp_path))) == 900


@pytest.mark.parametrize("acknowledged", [1, 17, 150])
def test_killed_worker_loses_no_acknowledged_line(tmp_path: Path, acknowledged: int) -> None:
    key = make_key(tmp_path)
    with _workers(tmp_path, key, 2, num_requests=100_000) as (victim, survivor):
        for worker in (victim, survivor):
            _send(worker, "start")
        seen = [victim.stdout.readline().split()[1] for _ in range(acknowledged)]
        victim.kill()
        seen += [line.split()[1] for line in victim.stdout if line.startswith("ok ") and line.endswith("\n")]
        for _ in range(50):  # the other one continues the chain
            seen.append(survivor.stdout.readline().split()[1])
    report = verify_audit(tmp_path, read_secret(tmp_path, create=False))
    assert report.is_intact, report.problem
    assert len(report.unclosed) == 2
    assert set(seen) <= set(_recorded(tmp_path))
