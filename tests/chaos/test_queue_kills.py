"""`farandole bench queue`: the bars of the queue, and the bench itself small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.queue.bench import QueueBench, bench_queue
from farandole.spec import Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MakeJob = Callable[..., Job]


def test_of_200_submissions_by_8_processes_none_is_lost_and_none_runs_twice(farandole_home: Path) -> None:
    document = bench_queue(QueueBench(submissions=200, submitters=8, kills=0, lines=0))
    (result,) = document["results"]
    assert result["jobs"] == 200
    assert (result["lost"], result["run_twice"], result["orphans"], result["wrong"]) == (0, 0, 0, [])


def test_kills_at_random_leave_no_orphan_and_no_job_in_a_wrong_state(farandole_home: Path) -> None:
    document = bench_queue(QueueBench(submissions=0, kills=20, lines=0, seed=7))
    (result,) = document["results"]
    assert result["kills"] == 20
    assert (result["lost"], result["run_twice"], result["orphans"], result["wrong"]) == (0, 0, 0, [])
    assert set(result["killed"]) == {"child", "job", "runner", "submitter"}
    assert result["states"]["succeeded"] > 0


def test_every_line_of_a_log_is_followed(farandole_home: Path) -> None:
    document = bench_queue(QueueBench(submissions=0, kills=0, lines=10))
    (result,) = document["results"]
    assert result["lines"] == 10
    assert 0 <= result["delay_ms_median"] <= result["delay_ms_max"]


@pytest.mark.slow(seconds=300)
def test_each_process_of_a_training_may_be_killed_and_the_job_ends_with_the_same_weights(
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
