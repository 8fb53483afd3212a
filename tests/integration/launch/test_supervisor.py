"""Trainings by real Horovod processes, from the first attempt to the last."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from farandole.errors import DatasetError, SpecError, TrainingError
from farandole.events import Event, Message
from farandole.launch import TrainedModel, train
from farandole.spec import Job
from tests.support.made_data import BATCH_ROWS, ROWS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MakeJob = Callable[..., Job]
FULL_STEPS, TAIL = divmod(ROWS["train"], BATCH_ROWS)


@dataclass
class Told:
    """A watcher that remembers."""

    events: list[Event]

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message) and event.level == "warning"]


def _client(home: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    newest = max((directory / "checkpoints").glob("step-*"))
    state: dict[str, torch.Tensor] = torch.load(newest / "state.pt", weights_only=True)["model"]
    return state


# The same training by 1, 2 and 3 workers ----------------------------------------------------------------------


@dataclass(frozen=True)
class Noting:
    """A training whose ranks noted the rows that they got."""

    trained: TrainedModel
    batches: list[list[list[str]]]
    """By step, then by rank: the rows."""
    losses: list[tuple[int, float]]


@pytest.fixture(scope="module")
def by_workers(
    module_home: Path, make_module_job: MakeJob, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Noting]:
    """Trainings that differ in the number of workers only."""
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
        history = _client(module_home).get_metric_history(trained.training.mlflow_run_id, "train.loss")
        losses = sorted((point.step, point.value) for point in history)
        found[workers] = Noting(trained, batches, losses)
    return found


def _has_rows(lines: list[list[str]], step: int, rank: int, workers: int) -> bool:
    rows = TAIL if step % (FULL_STEPS + 1) == FULL_STEPS else BATCH_ROWS
    return rows * (rank + 1) // workers > rows * rank // workers


@pytest.mark.slow(seconds=60)
def test_the_global_batches_are_the_same_for_every_number_of_workers(by_workers: dict[int, Noting]) -> None:
    alone = [ranks[0] for ranks in by_workers[1].batches]
    assert len(alone) == 2 * (FULL_STEPS + 1)
    for workers in (2, 3):
        together = [[row for rank in ranks for row in rank] for ranks in by_workers[workers].batches]
        assert together == alone


def test_workers_that_do_not_divide_the_batch_get_one_row_more_or_less(by_workers: dict[int, Noting]) -> None:
    sizes = [sorted(len(rank) for rank in ranks) for ranks in by_workers[3].batches]
    assert sizes[0] == [21, 21, 22]
    assert sizes[FULL_STEPS] == [0, 1, 1]  # the tail is smaller than the gang


def test_an_epoch_reads_each_row_once_and_the_next_one_in_another_order(by_workers: dict[int, Noting]) -> None:
    steps = [[row for rank in ranks for row in rank] for ranks in by_workers[2].batches]
    first, second = (
        [row for step in part for row in step] for part in (steps[: FULL_STEPS + 1], steps[FULL_STEPS + 1 :])
    )
    assert len(first) == len(set(first)) == ROWS["train"]
    assert set(first) == set(second)
    assert first != second


def test_losses_and_weights_agree_for_every_number_of_workers(by_workers: dict[int, Noting]) -> None:
    alone = by_workers[1]
    weights = _weights(alone.trained.directory)
    assert [step for step, _ in alone.losses] == list(range(1, 2 * (FULL_STEPS + 1) + 1))
    for workers in (2, 3):
        other = by_workers[workers]
        assert other.losses == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in alone.losses]
        torch.testing.assert_close(_weights(other.trained.directory), weights, rtol=1e-3, atol=1e-5)
        for name, value in alone.trained.training.metrics["test"].items():
            assert other.trained.training.metrics["test"][name] == pytest.approx(value, abs=0.01)


def test_the_training_document_says_what_was_done(by_workers: dict[int, Noting]) -> None:
    for workers, noting in by_workers.items():
        training = noting.trained.training
        assert set(training) == {
            "mlflow_run_id", "attempts", "workers", "steps", "rows_per_s", "weights_digest", "metrics", "time_split",
            "recoveries",
            "time_by_rank", "straggler",
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


def test_the_job_directory_keeps_the_spec_the_logs_and_the_checkpoints_and_no_environment(
    by_workers: dict[int, Noting],
) -> None:
    trained = by_workers[2].trained
    kept = {"job.json", "mlflow_run_id", "checkpoints", "logs", "status.json", "events.jsonl", "tracking"}
    assert {path.name for path in trained.directory.iterdir()} == kept
    assert len(list((trained.directory / "checkpoints").iterdir())) == 2
    assert trained.directory.name == trained.id


# Restarts and resumption --------------------------------------------------------------------------------------


def _failing(marks: Path, how: str = "kill") -> dict[str, Any]:
    """Fails once, in the third step of the third epoch."""
    step = 2 * FULL_STEPS + 3
    options = {"how": how, "rank": 1, "step": step, "marks": str(marks)}
    return {"builder": "network:build_failing", "options": options}


@dataclass(frozen=True)
class Broken:
    """A training that lost a rank and went on, beside one that nothing happened to."""

    job: Job
    trained: TrainedModel
    told: Told
    undisturbed: TrainedModel


@pytest.fixture(scope="module")
def broken(module_home: Path, make_module_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Broken:
    marks = tmp_path_factory.mktemp("marks")
    train_part = {
        "epochs": 3,
        "global_batch_size": BATCH_ROWS,
        "tail": "drop",
        "log_every_steps": 10,
        "schedule": {"name": "cosine", "warmup": 0.1},
        "checkpoint": {"keep": 3},
    }
    job = make_module_job(
        model=_failing(marks),
        train=train_part,
        resources={"workers": 2, "cpus": 1, "max_restarts": 1},
    )
    told = Told([])
    trained = train(job, told)
    return Broken(job, trained, told, train(job))


@pytest.mark.slow(seconds=45)
def test_a_lost_rank_is_replaced_by_a_second_attempt_from_the_checkpoint(broken: Broken) -> None:
    assert broken.trained.training.attempts == 2
    assert broken.undisturbed.training.attempts == 1
    (warning,) = broken.told.warnings
    assert "attempt 1 failed: train: worker 1 was killed by signal 9, SIGKILL" in warning
    assert f"goes on after epoch 2, step {2 * FULL_STEPS}" in [
        event.text for event in broken.told.events if isinstance(event, Message)
    ]


def test_a_broken_training_gives_the_same_bits_as_an_undisturbed_one(broken: Broken) -> None:
    assert broken.trained.training.weights_digest == broken.undisturbed.training.weights_digest
    assert broken.trained.training.metrics == broken.undisturbed.training.metrics


def test_all_attempts_share_one_mlflow_run(broken: Broken, module_home: Path) -> None:
    client = _client(module_home)
    run_id = broken.trained.training.mlflow_run_id
    experiment = client.get_run(run_id).info.experiment_id
    names = [run.info.run_name for run in client.search_runs([experiment])]
    assert names.count(broken.trained.id) == 1
    assert client.get_run(run_id).info.status == "FINISHED"
    epochs = {point.step for point in client.get_metric_history(run_id, "validation.roc_auc")}
    assert epochs == {FULL_STEPS, 2 * FULL_STEPS, 3 * FULL_STEPS}


def test_a_dropped_tail_is_not_trained_on(broken: Broken) -> None:
    assert broken.undisturbed.training.steps == 3 * FULL_STEPS


def test_resuming_passes_over_a_damaged_checkpoint_and_gives_the_same_bits(
    broken: Broken, module_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(module_home))
    directory = broken.undisturbed.directory
    newest = max((directory / "checkpoints").glob("step-*"))
    state = bytearray((newest / "state.pt").read_bytes())
    state[len(state) // 2] ^= 1
    (newest / "state.pt").write_bytes(state)
    os.utime(directory)
    told = Told([])

    resumed = train(broken.job, told, resume=True)

    assert resumed.directory == directory
    assert f"{newest}: does not match its digest; it is passed over" in told.warnings
    assert resumed.training.weights_digest == broken.undisturbed.training.weights_digest
    assert resumed.training.mlflow_run_id == broken.undisturbed.training.mlflow_run_id


def test_resuming_with_other_data_starts_afresh_with_a_warning_in_the_same_mlflow_run(
    broken: Broken, module_home: Path, make_module_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(module_home))
    os.utime(broken.trained.directory)
    told = Told([])
    job = make_module_job(seed=1, train__epochs=1, resources__workers=1)

    resumed = train(job, told, resume=True)

    assert resumed.directory == broken.trained.directory
    assert sum("belongs to another dataset, model or way of training" in text for text in told.warnings) >= 1
    assert resumed.training.steps == FULL_STEPS + 1
    run = _client(module_home).get_run(broken.trained.training.mlflow_run_id)
    assert resumed.training.mlflow_run_id == run.info.run_id
    assert run.data.params["train.epochs"] == "3"
    assert run.data.tags["farandole.changed.train.epochs"] == "1"


def test_a_dataset_that_lacks_a_policy_of_the_job_is_refused_before_anything_starts(
    home: Path, make_job: MakeJob
) -> None:
    job = make_job(data__privacy={"columns": {"colour": {"policy": "mask"}}})
    with pytest.raises(DatasetError, match=r"data\.privacy\.columns\.colour: the job requires mask"):
        train(job)
    assert not (home / "jobs").exists()


def test_resuming_what_never_began_is_refused(home: Path, make_job: MakeJob) -> None:
    with pytest.raises(SpecError, match="--resume: no job named small has been started here; leave --resume out"):
        train(make_job(), resume=True)


def test_a_missing_dataset_is_told_before_anything_starts(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    data = job.data.model_copy(update={"output": str(tmp_path / "nowhere")})
    with pytest.raises(DatasetError, match=r"nowhere: no manifest\.json, so no dataset .*farandole prepare"):
        train(job.model_copy(update={"data": data}))
    assert not (home / "jobs").exists()


# A disk that is full --------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(home: Path) -> Iterator[Path]:
    """The directory of all jobs, on a file system of 400 KiB."""
    jobs = home / "jobs"
    jobs.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", jobs], check=False).returncode
    ):
        pytest.skip("only root can mount a file system")
    try:
        yield jobs
    finally:
        subprocess.run(["umount", "--lazy", jobs], check=True)


def test_a_full_disk_ends_the_job_and_leaves_the_older_checkpoints_whole(tiny_disk: Path, make_job: MakeJob) -> None:
    job = make_job(
        model={"builder": "farandole.models.mlp:build", "options": {"hidden": [64, 64]}},
        train__checkpoint={"keep": 50},
        train__epochs=50,
        resources__workers=1,
    )
    with pytest.raises(
        TrainingError, match=r"the checkpoint of step \d+ cannot be written .*free some space"
    ) as caught:
        train(job)
    assert str(tiny_disk) in str(caught.value)
    (directory,) = tiny_disk.iterdir()
    kept = sorted((directory / "checkpoints").iterdir())
    assert kept, "nothing was saved before the disk was full"
    assert all(path.name.startswith("step-") for path in kept)
    for path in kept:
        meta = json.loads((path / "meta.json").read_text())
        torch.load(path / "state.pt", weights_only=True)
        assert path.name == f"step-{meta['step']:09d}"


# Secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_in_the_environment_reaches_the_workers_and_nothing_else(
    home: Path, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"s3cret-{time.time_ns()}"
    monkeypatch.setenv("MY_SECRET", secret)
    marks = tmp_path / "marks"
    marks.mkdir()
    job = make_job(model={"builder": "network:build_reading_secret", "options": {"marks": str(marks)}}, train__epochs=1)
    trained = train(job)

    for rank in range(2):
        length, num_command_lines = map(int, (marks / f"rank-{rank}").read_text().split())
        assert length == len(secret), f"rank {rank} does not know the secret"
        assert num_command_lines == 0
    # MLflow's database, the artifacts, the model, the logs, the spec, the checkpoints
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert not (trained.directory / "environment.json").exists()


def test_a_job_that_is_still_training_is_not_resumed(home: Path, make_job: MakeJob) -> None:
    job = make_job()
    directory = home / "jobs" / f"{job.name}-earlier"
    directory.mkdir(parents=True)
    (directory / "job.json").write_text(job.model_dump_json())
    (home / "jobs" / f"{job.name}-torn").mkdir()
    (home / "jobs" / f"{job.name}-torn" / "job.json").write_text("{")
    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SpecError, match=f"--resume: {directory.name} is still running"):
            train(job, resume=True)
    finally:
        os.close(held)


def test_a_home_that_cannot_be_written_is_told(home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    monkeypatch.setenv("FARANDOLE_HOME", "/dev/null/home")
    with pytest.raises(TrainingError, match=r"/dev/null/home/jobs.*: Not a directory; free some space, or set FARAND"):
        train(job)
