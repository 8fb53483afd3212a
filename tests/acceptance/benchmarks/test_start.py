"""Start benchmark with one start of each system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.jobs.start import StartBench, bench_start
from farandole.spec import Job

MakeJob = Callable[..., Job]


@pytest.mark.slow(seconds=50)
def test_both_systems_reach_their_first_step(home: Path, make_job: MakeJob) -> None:
    document = bench_start(StartBench(make_job(), repeats=1))
    by_system = {result["system"]: result for result in document["results"]}
    assert set(by_system) == {"horovodrun", "farandole"}
    assert all(result["first_step_s"] > 0 for result in by_system.values())
    overhead = by_system["farandole"]["first_step_s"] - by_system["horovodrun"]["first_step_s"]
    assert by_system["farandole"]["overhead_s"] == pytest.approx(overhead, abs=0.02)
