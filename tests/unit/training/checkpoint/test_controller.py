"""Stop and resume in a gang of one. Gangs of several ranks are in tests/integration/training/checkpoint."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from farandole.errors import DatasetError, ModelError, TrainingError
from farandole.events import Event, Message
from farandole.process.messages import WORKERS_VARIABLE
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training import world
from farandole.training.checkpoint import CheckpointManager, controller, open_backend, weights_digest
from farandole.training.stop import Stopped
from farandole.training.trainer import Trainer
from tests.support.made_data import ROWS, Made
from tests.support.stopping import RandomNetwork
from tests.support.trainer_harness import one_thread

MakeJob = Callable[..., Job]
STEPS = ROWS["train"] // 100
TRAIN: dict[str, Any] = {
    "epochs": 2,
    "global_batch_size": 100,
    "tail": "drop",
    "optimizer": {"learning_rate": 0.02},
    "schedule": {"name": "cosine", "warmup": 0.1},
    "augment": {"dense": {"kind": "numbers", "noise": 0.1}},
    "log_every_steps": 4,
    "seed": 3,
}


class Harness:
    """Trains, and records messages and metrics."""

    def __init__(self, gang: world.World, directory: Path, make_job: MakeJob) -> None:
        self._gang, self.directory, self._make_job = gang, directory, make_job
        self.dataset: Path | None = None
        self.messages: list[str] = []
        self.logged: dict[str, dict[int, float]] = {}

    def trainer(
        self, before: Callable[[int], None] = lambda step: None, *, identity: Any = "mine", **checkpoint: Any
    ) -> Trainer:
        data = {"data__output": str(self.dataset)} if self.dataset else {}
        job = self._make_job(train={**TRAIN, "checkpoint": checkpoint}, **data)
        dataset = Dataset(job.data.output)
        torch.manual_seed(3)
        np.random.seed(3)
        return Trainer(
            job=job,
            dataset=dataset,
            model=RandomNetwork(dataset, before),
            gang=self._gang,
            device=torch.device("cpu"),
            directory=self.directory,
            identity=identity,
            on_event=self._on_event,
            log=lambda values, step: self._log(values, step),
        )

    def fit(self, **options: Any) -> Trainer:
        trainer = self.trainer(**options)
        trainer.fit()
        return trainer

    def stop_in(self, step: int, **options: Any) -> int:
        """Request a stop during a step (0: before the first); returns the number of steps when training stopped."""
        trainer = self.trainer(lambda now: trainer.request_stop() if now == step else None, **options)
        if not step:
            trainer.request_stop()
        with pytest.raises(Stopped) as caught:
            trainer.fit()
        assert caught.value.step == trainer.steps_done
        return caught.value.step

    def names(self) -> list[str]:
        return open_backend(self.directory).names()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Message):
            self.messages.append(event.text)

    def _log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            if not name.endswith("_ms"):  # durations differ between trainings
                self.logged.setdefault(name, {})[step] = value


@pytest.fixture
def harness(tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv(WORKERS_VARIABLE, "1")
    with world.init() as gang, one_thread():
        yield Harness(gang, tmp_path / "checkpoints", make_job)


@pytest.fixture
def undisturbed(harness: Harness, tmp_path: Path) -> tuple[str, dict[str, dict[int, float]]]:
    """Return the digest and the logged metrics of a training without interruption."""
    original, harness.directory = harness.directory, tmp_path / "undisturbed"
    digest = weights_digest(harness.fit().model.state_dict())
    logged, harness.logged, harness.directory = harness.logged, {}, original
    return digest, logged


def test_training_stopped_at_every_step_resumes_with_identical_weights(
    harness: Harness, undisturbed: tuple[str, dict[str, dict[int, float]]]
) -> None:
    last, stops = 2 * STEPS, list[int]()
    while not stops or stops[-1] < last:
        stops.append(harness.stop_in(0))  # one more step each time
    assert stops == list(range(1, last + 1))
    digest, logged = undisturbed
    trainer = harness.fit()
    assert weights_digest(trainer.model.state_dict()) == digest
    assert trainer.steps_done == last
    assert harness.logged == logged


def test_resumed_training_reports_its_position(harness: Harness) -> None:
    assert harness.stop_in(3) == 4
    assert harness.stop_in(STEPS - 5) == STEPS  # the resumed one counts its own steps from 1
    harness.fit()
    assert [text for text in harness.messages if text.startswith("resuming")] == [
        "resuming in epoch 1, step 4",
        f"resuming after epoch 1, step {STEPS}",
    ]


def test_completed_epoch_is_validated_before_a_stop(harness: Harness) -> None:
    assert harness.stop_in(STEPS - 1) == STEPS
    assert list(harness.logged["validation.roc_auc"]) == [STEPS]


def test_checkpoints_are_saved_by_steps_and_at_the_end(harness: Harness) -> None:
    harness.fit(every_steps=4, every_epochs=5, keep=100, asynchronous=False)
    assert harness.names() == [f"step-{step:09d}" for step in (18, 16, 12, 8, 4)]


def test_checkpoints_are_saved_by_minutes(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(0, 30)  # half a minute passes at each look at the clock
    monkeypatch.setattr(controller, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    harness.fit(every_minutes=2, every_epochs=5, keep=100, asynchronous=False)
    steps = [int(name[5:]) for name in reversed(harness.names())]
    assert steps[-1] == 2 * STEPS
    assert len(steps) > 3


def test_checkpoint_due_during_a_write_is_saved_after_it(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    gate, put = threading.Event(), CheckpointManager.put
    monkeypatch.setattr(CheckpointManager, "put", lambda *arguments: (gate.wait(60), put(*arguments)))

    def before(step: int) -> None:
        if step == 7:  # steps 4 and 6 are due meanwhile; step 2 is still being written
            gate.set()
            trainer._checkpoints._writer.finish()

    trainer = harness.trainer(before, every_steps=2, keep=100)
    trainer.fit()
    names = [int(name[5:]) for name in reversed(harness.names())]
    assert names[:2] == [2, 8]
    assert {STEPS, 2 * STEPS} <= set(names)


def test_checkpoint_of_the_best_epoch_is_kept(harness: Harness) -> None:
    harness.fit(keep=1, keep_best=1, best_metric="log_loss")
    losses = harness.logged["validation.log_loss"]
    best = min(losses, key=lambda step: losses[step])
    assert set(harness.names()) == {f"step-{best:09d}", f"step-{2 * STEPS:09d}"}


def test_checkpoint_describes_its_content(harness: Harness) -> None:
    harness.stop_in(2, identity={"model": {"hidden": [16]}})
    backend = open_backend(harness.directory)
    (name,) = backend.names()
    meta = backend.meta(name)
    assert (meta["step"], meta["epoch"], meta["workers"]) == (3, 0, 1)
    assert meta["identity"] == {"model": {"hidden": [16]}}
    assert set(meta["versions"]) == {"farandole", "torch", "python"}
    state = backend.state(name, meta)
    assert set(state) == {"model", "optimizer", "stopper", "loader", "ranks"}
    assert state["loader"]["rows"] == 300
    (rank,) = state["ranks"]
    assert set(rank["random"]) == {"torch", "cuda", "numpy", "python"}
    assert rank["sums"][1] == 300


def test_saved_state_is_that_of_its_step_while_training_continues(harness: Harness) -> None:
    first = harness.fit(every_steps=1, every_epochs=5, keep=100, asynchronous=False)
    digests = _digests(harness)
    harness.directory = harness.directory.with_name("asynchronous")
    second = harness.fit(every_steps=1, every_epochs=5, keep=100)
    others = _digests(harness)
    assert weights_digest(first.model.state_dict()) == weights_digest(second.model.state_dict())
    assert len(digests) == 2 * STEPS
    assert len(others) >= 2
    assert others == {name: digests[name] for name in others}


def _digests(harness: Harness) -> dict[str, str]:
    backend = open_backend(harness.directory)
    return {name: weights_digest(backend.state(name, backend.meta(name))["model"]) for name in backend.names()}


def test_checkpoint_of_other_model_code_is_skipped_with_the_differing_weight(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.stop_in(2)
    monkeypatch.setattr(nn, "BatchNorm1d", lambda size: nn.BatchNorm2d(size) if size > 1 else nn.LayerNorm(1))
    trainer = harness.fit()
    assert trainer.steps_done == 2 * STEPS
    (warning,) = [text for text in harness.messages if "skipped" in text]
    assert "belongs to another model (its norm.running_mean was float32 [1], now missing; the builder's code" in warning


def test_other_version_of_torch_causes_a_warning(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.stop_in(2)
    monkeypatch.setattr(torch, "__version__", "9.9")
    harness.fit()
    assert any("torch" in text and "now 9.9: the last bits may differ" in text for text in harness.messages)


def test_model_whose_state_cannot_be_saved_is_rejected_before_training(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RandomNetwork, "get_extra_state", lambda self: {1, 2})
    with pytest.raises(ModelError, match=r"_extra_state is a set, which a checkpoint cannot hold"):
        harness.trainer()


@pytest.mark.parametrize("shards_too", [True, False])
def test_dataset_prepared_again_during_training_ends_it(
    harness: Harness, made: Callable[..., Made], tmp_path: Path, shards_too: bool
) -> None:
    harness.dataset = tmp_path / "dataset"
    shutil.copytree(made().path, harness.dataset)

    def prepare_again(step: int) -> None:
        if step != 3:
            return
        if shards_too:  # those of the validation split are not open yet
            shutil.rmtree(tmp_path / "dataset")
            shutil.copytree(made(seed=1).path, tmp_path / "dataset")
        else:
            shutil.copy(made(seed=1).path / "manifest.json", tmp_path / "dataset")

    with pytest.raises(DatasetError, match=r"dataset: the dataset changed during training: its digest was"):
        harness.fit(before=prepare_again, every_steps=2, asynchronous=False)
    last = STEPS - 1 if shards_too else STEPS  # the end of the first epoch, or the last step before it
    assert harness.names()[0] == f"step-{last:09d}"


@pytest.fixture
def tiny_disk(harness: Harness) -> Iterator[Path]:
    """Mount a file system with room for one checkpoint, but not for two, as the directory of the checkpoints."""
    harness.directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(harness.directory)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        yield harness.directory
    finally:
        subprocess.run(["umount", "--lazy", harness.directory], check=True)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_full_disk_ends_training_and_keeps_older_checkpoints(
    harness: Harness, tiny_disk: Path, asynchronous: bool
) -> None:
    with pytest.raises(TrainingError) as caught:
        harness.fit(every_steps=1, keep=100, asynchronous=asynchronous)
    assert str(caught.value).startswith(f"{tiny_disk}: the checkpoint of step ")
    assert "cannot be written (No space left on device); free some space" in str(caught.value)
    kept = harness.names()
    assert 0 < len(kept) < 2 * STEPS
    assert len(_digests(harness)) == len(kept) == len(list(tiny_disk.iterdir()))
