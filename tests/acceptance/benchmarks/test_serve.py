"""Serving benchmark: every system answers rows of a real model."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.serve.bench import ServeBench, bench_serve
from benchmarks.serve.servers import SERVERS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk, which makes the load, is not installed")
def test_every_system_answers_all_requests() -> None:
    document = bench_serve(ServeBench(cases=["flights-8"], seconds=2, repeats=1))
    assert [(result["system"], result["case"]) for result in document["results"]] == [
        (system, "flights-8") for system in SERVERS
    ]
    for result in document["results"]:
        assert result["requests_per_s"] > 0
        assert 0 < result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
