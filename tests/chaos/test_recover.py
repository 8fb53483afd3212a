"""Recovery benchmark with few kills of real workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.jobs.recover import RecoverBench, bench_recover
from farandole.errors import SpecError
from farandole.spec import Job

MakeJob = Callable[..., Job]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _slow_job(make_job: MakeJob, marks: Path, epochs: int) -> Job:
    marks.mkdir()
    options = {"marks": str(marks), "step_s": 0.02}
    return make_job(model={"builder": "network:build_slow", "options": options}, train__epochs=epochs)


@pytest.mark.slow(seconds=150)
def test_training_resumes_after_each_kill_and_ends_with_the_same_bits(
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
def test_training_that_is_too_short_for_the_kills_is_reported(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    job = _slow_job(make_job, tmp_path / "marks", 1)
    with pytest.raises(SpecError, match=r"recover: the training ended after 0 of 1 kills; make it last longer"):
        bench_recover(RecoverBench(job, kills=1, within_s=10_000.0, seed=1))
