"""The same training with 1, 2 and 3 workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from farandole.launch import TrainedModel, train
from farandole.spec import Job
from tests.support.made_data import BATCH_ROWS, ROWS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MakeJob = Callable[..., Job]
FULL_STEPS, TAIL = divmod(ROWS["train"], BATCH_ROWS)


def _client(home: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    newest = max((directory / "checkpoints").glob("step-*"))
    state: dict[str, torch.Tensor] = torch.load(newest / "state.pt", weights_only=True)["model"]
    return state


@dataclass(frozen=True)
class RecordedTraining:
    """A training whose ranks recorded the rows that they received."""

    trained: TrainedModel
    batches: list[list[list[str]]]
    """The rows by step, then by rank."""
    losses: list[tuple[int, float]]


@pytest.fixture(scope="module")
def by_workers(
    module_home: Path, make_module_job: MakeJob, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, RecordedTraining]:
    """Return trainings that only differ in the number of workers."""
    found = {}
    for workers in (1, 2, 3):
        marks = tmp_path_factory.mktemp("rows")
        job = make_module_job(
            model={"builder": "network:build_recording_rows", "options": {"marks": str(marks)}},
            resources={"workers": workers, "cpus": 1},
        )
        trained = train(job)
        ranks = [
            [line.split() for line in (marks / f"rank-{rank}").read_text().splitlines()] for rank in range(workers)
        ]
        # A rank without rows in a step does not call its network.
        steps = max(len(lines) for lines in ranks)
        batches = [
            [lines.pop(0) if _has_rows(lines, step, rank, workers) else [] for rank, lines in enumerate(ranks)]
            for step in range(steps)
        ]
        run_id = trained.training.mlflow_run_id
        assert run_id is not None
        history = _client(module_home).get_metric_history(run_id, "train.loss")
        losses = sorted((point.step, point.value) for point in history)
        found[workers] = RecordedTraining(trained, batches, losses)
    return found


def _has_rows(lines: list[list[str]], step: int, rank: int, workers: int) -> bool:
    rows = TAIL if step % (FULL_STEPS + 1) == FULL_STEPS else BATCH_ROWS
    return rows * (rank + 1) // workers > rows * rank // workers


@pytest.mark.slow(seconds=60)
def test_global_batches_do_not_depend_on_the_number_of_workers(by_workers: dict[int, RecordedTraining]) -> None:
    alone = [ranks[0] for ranks in by_workers[1].batches]
    assert len(alone) == 2 * (FULL_STEPS + 1)
    for workers in (2, 3):
        together = [[row for rank in ranks for row in rank] for ranks in by_workers[workers].batches]
        assert together == alone


def test_batch_is_divided_as_evenly_as_possible(by_workers: dict[int, RecordedTraining]) -> None:
    sizes = [sorted(len(rank) for rank in ranks) for ranks in by_workers[3].batches]
    assert sizes[0] == [21, 21, 22]
    assert sizes[FULL_STEPS] == [0, 1, 1]  # the tail is smaller than the gang


def test_every_epoch_reads_each_row_once_in_another_order(by_workers: dict[int, RecordedTraining]) -> None:
    steps = [[row for rank in ranks for row in rank] for ranks in by_workers[2].batches]
    first, second = (
        [row for step in part for row in step] for part in (steps[: FULL_STEPS + 1], steps[FULL_STEPS + 1 :])
    )
    assert len(first) == len(set(first)) == ROWS["train"]
    assert set(first) == set(second)
    assert first != second


def test_losses_and_weights_do_not_depend_on_the_number_of_workers(by_workers: dict[int, RecordedTraining]) -> None:
    alone = by_workers[1]
    weights = _weights(alone.trained.directory)
    assert [step for step, _ in alone.losses] == list(range(1, 2 * (FULL_STEPS + 1) + 1))
    for workers in (2, 3):
        other = by_workers[workers]
        assert [step for step, _ in other.losses] == [step for step, _ in alone.losses]
        assert [loss for _, loss in other.losses] == pytest.approx([loss for _, loss in alone.losses], rel=1e-4)
        torch.testing.assert_close(_weights(other.trained.directory), weights, rtol=1e-3, atol=1e-5)
        for name, value in alone.trained.training.metrics["test"].items():
            assert other.trained.training.metrics["test"][name] == pytest.approx(value, abs=0.01)


def test_training_document_is_complete(by_workers: dict[int, RecordedTraining]) -> None:
    for workers, recorded in by_workers.items():
        training = recorded.trained.training
        assert set(training.to_dict()) == {
            "mlflow_run_id", "attempts", "workers", "steps", "rows_per_s", "weights_digest", "metrics", "time_split",
            "recoveries",
            "time_by_rank", "straggler", "epochs", "best_epoch", "weights_step", "refit_steps", "evaluation",
        }  # fmt: skip
        assert training.workers == workers
        assert training.attempts == 1
        assert training.recoveries == []
        assert training.steps == 2 * (FULL_STEPS + 1)
        assert training.rows_per_s > 0
        assert set(training.metrics) == {"test", "validation"}
        assert training.metrics["test"]["roc_auc"] > 0.9
        assert all(seconds >= 0 for seconds in training.time_split.values())
        assert len(training.time_by_rank) == workers
        assert training.time_by_rank[0] == pytest.approx(training.time_split, abs=0.1)


def test_job_directory_holds_spec_logs_and_checkpoints_but_no_environment(
    by_workers: dict[int, RecordedTraining],
) -> None:
    trained = by_workers[2].trained
    kept = {
        "job.json",
        "mlflow_run_id",
        "checkpoints",
        "logs",
        "status.json",
        "events.jsonl",
        "tracking",
        "baseline.npz",
    }
    assert {path.name for path in trained.directory.iterdir()} == kept
    assert len(list((trained.directory / "checkpoints").iterdir())) == 2
    assert trained.directory.name == trained.id
