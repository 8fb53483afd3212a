"""Queue benchmark: throughput of submissions and latency of logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.queue.bench import QueueBench, bench_queue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_no_job_is_lost_or_run_twice_when_8_processes_submit_200_jobs(farandole_home: Path) -> None:
    document = bench_queue(QueueBench(submissions=200, submitters=8, kills=0, lines=0))
    (result,) = document["results"]
    assert result["jobs"] == 200
    assert (result["lost"], result["run_twice"], result["orphans"], result["wrong"]) == (0, 0, 0, [])


def test_every_line_of_a_log_is_followed(farandole_home: Path) -> None:
    document = bench_queue(QueueBench(submissions=0, kills=0, lines=10))
    (result,) = document["results"]
    assert result["lines"] == 10
    assert 0 <= result["delay_ms_median"] <= result["delay_ms_max"]
