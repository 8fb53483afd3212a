"""`farandole bench recover` and `bench start`, small: real trainings, real kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.jobs.recover import RecoverBench, bench_recover
from benchmarks.jobs.start import StartBench, bench_start
from farandole.errors import SpecError
from farandole.spec import Job

MakeJob = Callable[..., Job]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _slow_job(make_job: MakeJob, marks: Path, epochs: int) -> Job:
    marks.mkdir()
    options = {"marks": str(marks), "step_s": 0.02}
    return make_job(model={"builder": "network:build_slow", "options": options}, train__epochs=epochs)


@pytest.mark.slow(seconds=150)
def test_a_training_goes_on_after_each_kill_and_ends_with_the_same_bits(
    home: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    document = bench_recover(RecoverBench(_slow_job(make_job, tmp_path / "marks", 20), kills=2, within_s=3.0, seed=1))
    (result,) = document["results"]
    assert result["bit_identical"] is True
    assert result["kills"] == 2
    assert [kill["rank"] in (0, 1) for kill in result["each"]] == [True, True]
    assert all(kill["from_step"] >= 0 for kill in result["each"])
    assert 0 < result["seconds_median"] <= result["seconds_max"]


@pytest.mark.slow(seconds=80)
def test_a_training_that_is_too_short_for_the_kills_is_told(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    job = _slow_job(make_job, tmp_path / "marks", 1)
    with pytest.raises(SpecError, match=r"bench: the training ended after 0 of 1 kills; let it last longer"):
        bench_recover(RecoverBench(job, kills=1, within_s=10_000.0, seed=1))


@pytest.mark.slow(seconds=50)
def test_both_systems_are_started_up_to_their_first_step(home: Path, make_job: MakeJob) -> None:
    document = bench_start(StartBench(make_job(), repeats=1))
    by_system = {result["system"]: result for result in document["results"]}
    assert set(by_system) == {"horovodrun", "farandole"}
    assert all(result["first_step_s"] > 0 for result in by_system.values())
    overhead = by_system["farandole"]["first_step_s"] - by_system["horovodrun"]["first_step_s"]
    assert by_system["farandole"]["overhead_s"] == pytest.approx(overhead, abs=0.02)
