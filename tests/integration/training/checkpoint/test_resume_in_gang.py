"""Stop and resume with gangs of two ranks, and of three that resume a training of two."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farandole.launch.script import run_script
from farandole.spec import Job
from tests.support.made_data import ROWS
from tests.support.paths import SUPPORT

pytestmark = pytest.mark.slow

MakeJob = Callable[..., Job]
STEPS = ROWS["train"] // 100
SCRIPT = SUPPORT / "stopping.py"
STOPS = ((1, 1), (0, 3), (1, STEPS - 1), (0, STEPS), (1, STEPS + 4))
"""The rank that receives a stop request, and the step; all ranks stop after the next one."""


def gang(path: Path, workers: int, job: Job, network: str, trainings: list[dict[str, Any]]) -> list[list[Any]]:
    """Run the trainings in one gang; returns the results of each rank by training."""
    path.write_text(json.dumps({"job": job.model_dump(mode="json"), "network": network, "trainings": trainings}))
    with path.with_name(f"{path.name}.txt").open("w+") as output:
        code = run_script(SCRIPT, [str(path)], workers=workers, output=output)
        output.seek(0)
        assert code == 0, output.read()[-3000:]
    ranks = [json.loads(path.with_name(f"{path.name}.{rank}").read_text()) for rank in range(workers)]
    return [list(seen) for seen in zip(*ranks, strict=True)]


@dataclass(frozen=True)
class Stops:
    """Trainings of two ranks: for each stop the training that stopped, and the one that resumed.

    Args:
        whole: Training without interruption.
        stopped: Trainings that stopped.
        resumed: Trainings that resumed.
    """

    whole: list[Any]
    stopped: list[list[Any]]
    resumed: list[list[Any]]


@pytest.fixture(scope="module")
def make_small(make_module_job: MakeJob) -> Callable[..., Job]:
    def make(**train: Any) -> Job:
        part = {"epochs": 2, "global_batch_size": 100, "tail": "drop", "log_every_steps": 1, "seed": 3}
        optimizer = {"optimizer": {"learning_rate": 0.02}, "schedule": {"name": "cosine", "warmup": 0.1}}
        return make_module_job(train={**part, **optimizer, **train})

    return make


@pytest.fixture(scope="module")
def stops(module_home: Path, make_small: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Stops:
    base = tmp_path_factory.mktemp("stops")
    plan: list[dict[str, Any]] = [{"directory": str(base / "whole")}]
    for number, request in enumerate(STOPS):
        plan += [{"directory": str(base / f"{number}"), "request": request}, {"directory": str(base / f"{number}")}]
    augment = {"dense": {"kind": "numbers", "noise": 0.1}}
    done = gang(base / "plan.json", 2, make_small(log_every_steps=4, augment=augment), "random", plan)
    return Stops(done[0], done[1::2], done[2::2])


def test_request_to_one_rank_stops_all_after_the_same_step(stops: Stops) -> None:
    assert [[rank["stopped"] for rank in ranks] for ranks in stops.stopped] == [[step + 1] * 2 for _, step in STOPS]
    assert [rank["stopped"] for rank in stops.whole] == [None, None]


def test_resumed_training_has_identical_weights(stops: Stops) -> None:
    expected = [rank["digest"] for rank in stops.whole]
    assert expected[0] == expected[1]
    assert [[rank["digest"] for rank in ranks] for ranks in stops.resumed] == [expected] * len(STOPS)


def test_resumed_training_logs_the_same_losses(stops: Stops) -> None:
    """Includes losses averaged over steps before and after the stop."""
    whole = stops.whole[0]["losses"]
    assert list(whole) == [str(step) for step in (4, 8, 9, 12, 16, 18)]
    for stopped, resumed in zip(stops.stopped, stops.resumed, strict=True):
        assert {**stopped[0]["losses"], **resumed[0]["losses"]} == whole


def test_resumed_training_reads_the_remaining_rows(stops: Stops) -> None:
    for rank in range(2):
        whole = stops.whole[rank]["rows"]
        for stopped, resumed in zip(stops.stopped, stops.resumed, strict=True):
            assert stopped[rank]["rows"] + resumed[rank]["rows"] == whole


def test_three_ranks_resume_a_training_of_two(module_home: Path, make_small: MakeJob, tmp_path: Path) -> None:
    job = make_small()
    half = str(tmp_path / "two")
    plan: list[dict[str, Any]] = [
        {"directory": str(tmp_path / "whole")},
        {"directory": half, "request": (1, STEPS + 3)},
    ]
    whole, stopped = gang(tmp_path / "first.json", 2, job, "plain", plan)
    shutil.copytree(half, tmp_path / "three")
    (resumed,) = gang(tmp_path / "second.json", 3, job, "plain", [{"directory": str(tmp_path / "three")}])

    done = STEPS + 4
    assert [rank["stopped"] for rank in stopped] == [done, done]
    assert _global_batches(resumed) == _global_batches(whole)[done:]
    losses = resumed[0]["losses"]
    assert list(losses) == [str(step) for step in range(done + 1, 2 * STEPS + 1)]
    assert losses == {step: pytest.approx(whole[0]["losses"][step], rel=1e-4) for step in losses}


def _global_batches(ranks: list[Any]) -> list[list[float]]:
    return [[row for part in parts for row in part] for parts in zip(*(rank["rows"] for rank in ranks), strict=True)]
