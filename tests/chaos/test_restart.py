"""Restart of a training after a kill, and resumption from its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from farandole.events import Event, Message
from farandole.launch import TrainedModel, train
from farandole.spec import Job
from tests.support.made_data import BATCH_ROWS, ROWS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MakeJob = Callable[..., Job]
FULL_STEPS = ROWS["train"] // BATCH_ROWS


@dataclass
class EventRecorder:
    """Event handler that remembers all events."""

    events: list[Event]

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message) and event.level == "warning"]


def _client(home: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


def _failing(marks: Path, how: str = "kill") -> dict[str, Any]:
    """Return a model that fails once, in the third step of the third epoch."""
    step = 2 * FULL_STEPS + 3
    options = {"how": how, "rank": 1, "step": step, "marks": str(marks)}
    return {"builder": "network:build_failing", "options": options}


@dataclass(frozen=True)
class Restarted:
    """A training that lost a rank and was restarted, and an undisturbed one."""

    job: Job
    trained: TrainedModel
    recorder: EventRecorder
    undisturbed: TrainedModel


@pytest.fixture(scope="module")
def restarted(module_home: Path, make_module_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Restarted:
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
    recorder = EventRecorder([])
    trained = train(job, recorder)
    return Restarted(job, trained, recorder, train(job))


@pytest.mark.slow(seconds=45)
def test_second_attempt_resumes_from_the_checkpoint_after_a_kill(restarted: Restarted) -> None:
    assert restarted.trained.training.attempts == 2
    assert restarted.undisturbed.training.attempts == 1
    (warning,) = restarted.recorder.warnings
    assert "attempt 1 failed: train: worker 1 was killed by signal 9, SIGKILL" in warning
    assert f"resuming after epoch 2, step {2 * FULL_STEPS}" in [
        event.text for event in restarted.recorder.events if isinstance(event, Message)
    ]


def test_restarted_training_ends_with_the_same_bits_as_an_undisturbed_one(restarted: Restarted) -> None:
    assert restarted.trained.training.weights_digest == restarted.undisturbed.training.weights_digest
    assert restarted.trained.training.metrics == restarted.undisturbed.training.metrics


def test_all_attempts_share_one_mlflow_run(restarted: Restarted, module_home: Path) -> None:
    client = _client(module_home)
    run_id = restarted.trained.training.mlflow_run_id
    assert run_id is not None
    experiment = client.get_run(run_id).info.experiment_id
    names = [run.data.tags["farandole.job"] for run in client.search_runs([experiment])]
    assert names.count(restarted.trained.id) == 1
    assert client.get_run(run_id).info.status == "FINISHED"
    epochs = {point.step for point in client.get_metric_history(run_id, "validation.roc_auc")}
    assert epochs == {FULL_STEPS, 2 * FULL_STEPS, 3 * FULL_STEPS}


def test_dropped_tail_is_not_trained_on(restarted: Restarted) -> None:
    assert restarted.undisturbed.training.steps == 3 * FULL_STEPS


def test_damaged_checkpoint_is_skipped_with_a_warning(
    restarted: Restarted, module_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(module_home))
    directory = restarted.undisturbed.directory
    newest = max((directory / "checkpoints").glob("step-*"))
    state = bytearray((newest / "state.pt").read_bytes())
    state[len(state) // 2] ^= 1
    (newest / "state.pt").write_bytes(state)
    recorder = EventRecorder([])

    resumed = train(restarted.job, recorder, directory=directory)

    assert resumed.directory == directory
    assert f"{newest}: does not match its digest; skipped" in recorder.warnings
    assert resumed.training.weights_digest == restarted.undisturbed.training.weights_digest
    assert resumed.training.mlflow_run_id == restarted.undisturbed.training.mlflow_run_id


def test_resuming_with_other_data_starts_again_in_the_same_mlflow_run(
    restarted: Restarted, module_home: Path, make_module_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(module_home))
    recorder = EventRecorder([])
    job = make_module_job(seed=1, train__epochs=1, resources__workers=1)

    resumed = train(job, recorder, directory=restarted.trained.directory)

    assert resumed.directory == restarted.trained.directory
    assert sum("belongs to another dataset, model or training setting" in text for text in recorder.warnings) >= 1
    assert resumed.training.steps == FULL_STEPS + 1
    run_id = restarted.trained.training.mlflow_run_id
    assert run_id is not None
    run = _client(module_home).get_run(run_id)
    assert resumed.training.mlflow_run_id == run.info.run_id
    assert run.data.params["train.epochs"] == "3"
    assert run.data.tags["farandole.changed.train.epochs"] == "1"
