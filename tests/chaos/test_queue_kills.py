"""Kill campaigns against the local queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.queue.bench import QueueBench, bench_queue
from farandole.spec import Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MakeJob = Callable[..., Job]


def test_random_kills_leave_no_orphan_and_no_job_in_a_wrong_state(farandole_home: Path) -> None:
    document = bench_queue(QueueBench(submissions=0, kills=20, lines=0, seed=7))
    (result,) = document["results"]
    assert result["kills"] == 20
    assert (result["lost"], result["run_twice"], result["orphans"], result["wrong"]) == (0, 0, 0, [])
    assert set(result["killed"]) == {"child", "job", "runner", "submitter"}
    assert result["states"]["succeeded"] > 0


@pytest.mark.slow(seconds=300)
def test_job_ends_with_the_same_weights_whichever_of_its_processes_is_killed(
    home: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    options = {"marks": str(marks), "step_s": 0.05}
    job = make_job(
        model={"builder": "network:build_slow", "options": options}, train__epochs=10, resources__max_restarts=2
    )
    document = bench_queue(QueueBench(submissions=0, kills=0, lines=0, job=job, job_kills=4, seed=1))
    (result,) = document["results"]
    assert result["killed"] == {"runner": 1, "supervisor": 1, "launcher": 1, "worker": 1}
    assert (result["orphans"], result["wrong"]) == (0, [])
