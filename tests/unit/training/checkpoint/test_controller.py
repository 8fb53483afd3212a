"""Stopping and going on, by a real Horovod gang of one; gangs of several are in test_resume.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from farandole.errors import DatasetError, ModelError, TrainingError
from farandole.events import Event, Message
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training import world
from farandole.training.checkpoint import CheckpointManager, controller, open_backend, weights_digest
from farandole.training.stop import Stopped
from farandole.training.trainer import Trainer
from tests.support.made_data import ROWS, Made
from tests.support.stopping import Drawing

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


class Sitting:
    """Trains, and remembers what is said and logged."""

    def __init__(self, gang: world.World, directory: Path, make_job: MakeJob) -> None:
        self._gang, self.directory, self._make_job = gang, directory, make_job
        self.dataset: Path | None = None
        self.notes: list[str] = []
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
            model=Drawing(dataset, before),
            gang=self._gang,
            device=torch.device("cpu"),
            directory=self.directory,
            identity=identity,
            on_event=self._hear,
            log=lambda values, step: self._log(values, step),
        )

    def fitted(self, **options: Any) -> Trainer:
        trainer = self.trainer(**options)
        trainer.fit()
        return trainer

    def stopped_in(self, step: int, **options: Any) -> int:
        """Asks for a stop in the middle of a step (0: before the first); returns the step after which it stopped."""
        trainer = self.trainer(lambda now: trainer.request_stop() if now == step else None, **options)
        if not step:
            trainer.request_stop()
        with pytest.raises(Stopped) as caught:
            trainer.fit()
        assert caught.value.step == trainer.steps_done
        return caught.value.step

    def names(self) -> list[str]:
        return open_backend(self.directory).names()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Message):
            self.notes.append(event.text)

    def _log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            if not name.startswith("time."):  # it differs from training to training
                self.logged.setdefault(name, {})[step] = value


@pytest.fixture
def sitting(home: Path, tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sitting]:
    monkeypatch.setenv(world.WORKERS_VARIABLE, "1")
    with world.init() as gang:
        yield Sitting(gang, tmp_path / "checkpoints", make_job)


@pytest.fixture
def undisturbed(sitting: Sitting, tmp_path: Path) -> tuple[str, dict[str, dict[int, float]]]:
    """The weights and what was logged of a training that nothing happened to."""
    place, sitting.directory = sitting.directory, tmp_path / "undisturbed"
    digest = weights_digest(sitting.fitted().model.state_dict())
    logged, sitting.logged, sitting.directory = sitting.logged, {}, place
    return digest, logged


def test_a_training_that_stops_at_any_step_goes_on_with_the_same_bits(
    sitting: Sitting, undisturbed: tuple[str, dict[str, dict[int, float]]]
) -> None:
    last, stops = 2 * STEPS, []
    while not stops or stops[-1] < last:
        stops.append(sitting.stopped_in(0))  # one more step each time, then it stops again
    assert stops == list(range(1, last + 1))
    digest, logged = undisturbed
    trainer = sitting.fitted()
    assert weights_digest(trainer.model.state_dict()) == digest
    assert trainer.steps_done == last
    assert sitting.logged == logged


def test_what_goes_on_says_where(sitting: Sitting) -> None:
    assert sitting.stopped_in(3) == 4
    assert sitting.stopped_in(STEPS - 5) == STEPS  # the resumed one counts its own steps from 1
    sitting.fitted()
    assert [note for note in sitting.notes if note.startswith("goes on")] == [
        "goes on in epoch 1, step 4",
        f"goes on after epoch 1, step {STEPS}",
    ]


def test_every_epoch_that_ends_is_validated_though_it_stops_there(sitting: Sitting) -> None:
    assert sitting.stopped_in(STEPS - 1) == STEPS
    assert list(sitting.logged["validation.roc_auc"]) == [STEPS]


def test_checkpoints_come_every_so_many_steps_and_at_the_end(sitting: Sitting) -> None:
    sitting.fitted(every_steps=4, every_epochs=5, keep=100, asynchronous=False)
    assert sitting.names() == [f"step-{step:09d}" for step in (18, 16, 12, 8, 4)]


def test_checkpoints_come_every_so_many_minutes(sitting: Sitting, monkeypatch: pytest.MonkeyPatch) -> None:

    now = iter(range(0, 10_000, 30))  # half a minute passes whenever somebody looks at the clock
    monkeypatch.setattr(controller.time, "monotonic", lambda: float(next(now)))
    sitting.fitted(every_minutes=2, every_epochs=5, keep=100, asynchronous=False)
    steps = [int(name[5:]) for name in reversed(sitting.names())]
    assert steps[-1] == 2 * STEPS
    assert len(steps) > 3


def test_one_that_is_due_while_another_is_written_follows_when_it_is_done(
    sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    gate, put = threading.Event(), CheckpointManager.put
    monkeypatch.setattr(CheckpointManager, "put", lambda *arguments: (gate.wait(60), put(*arguments)))

    def before(step: int) -> None:
        if step == 7:  # steps 4 and 6 are due in the meantime; the one of step 2 is still being written
            gate.set()
            trainer._saver._writer.finish()

    trainer = sitting.trainer(before, every_steps=2, keep=100)
    trainer.fit()
    names = [int(name[5:]) for name in reversed(sitting.names())]
    assert names[:2] == [2, 8]
    assert {STEPS, 2 * STEPS} <= set(names)


def test_the_best_epochs_checkpoint_is_kept(sitting: Sitting) -> None:
    sitting.fitted(keep=1, keep_best=1, best_metric="log_loss")
    losses = sitting.logged["validation.log_loss"]
    best = min(losses, key=lambda step: losses[step])
    assert set(sitting.names()) == {f"step-{best:09d}", f"step-{2 * STEPS:09d}"}


def test_a_checkpoint_says_what_it_holds(sitting: Sitting) -> None:
    sitting.stopped_in(2, identity={"model": {"hidden": [16]}})
    store = open_backend(sitting.directory)
    (name,) = store.names()
    meta = store.meta(name)
    assert (meta["step"], meta["epoch"], meta["workers"]) == (3, 0, 1)
    assert meta["identity"] == {"model": {"hidden": [16]}}
    assert set(meta["versions"]) == {"farandole", "torch", "python"}
    state = store.state(name, meta)
    assert set(state) == {"model", "optimizer", "loader", "ranks"}
    assert state["loader"]["rows"] == 300
    (rank,) = state["ranks"]
    assert set(rank["random"]) == {"torch", "cuda", "numpy", "python"}
    assert rank["sums"][1] == 300


def test_the_state_is_that_of_its_step_though_training_goes_on(sitting: Sitting) -> None:
    first = sitting.fitted(every_steps=1, every_epochs=5, keep=100, asynchronous=False)
    digests = _digests(sitting)
    sitting.directory = sitting.directory.with_name("asynchronous")
    second = sitting.fitted(every_steps=1, every_epochs=5, keep=100)
    others = _digests(sitting)
    assert weights_digest(first.model.state_dict()) == weights_digest(second.model.state_dict())
    assert len(digests) == 2 * STEPS
    assert len(others) >= 2
    assert others == {name: digests[name] for name in others}


def _digests(sitting: Sitting) -> dict[str, str]:
    store = open_backend(sitting.directory)
    return {name: weights_digest(store.state(name, store.meta(name))["model"]) for name in store.names()}


def test_a_network_of_other_code_begins_anew_and_is_told_which_weight_differs(
    sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    sitting.stopped_in(2)
    monkeypatch.setattr(nn, "BatchNorm1d", lambda size: nn.BatchNorm2d(size) if size > 1 else nn.LayerNorm(1))
    trainer = sitting.fitted()
    assert trainer.steps_done == 2 * STEPS
    (warning,) = [note for note in sitting.notes if "passed over" in note]
    assert (
        "belongs to another model (its norm.running_mean was float32 [1], now not there; the builder's code" in warning
    )


def test_another_version_of_torch_is_told(sitting: Sitting, monkeypatch: pytest.MonkeyPatch) -> None:
    sitting.stopped_in(2)
    monkeypatch.setattr(torch, "__version__", "9.9")
    sitting.fitted()
    assert any("torch" in note and "now 9.9: the last bits may differ" in note for note in sitting.notes)


def test_a_model_whose_state_cannot_be_saved_is_told_before_it_trains(
    sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Drawing, "get_extra_state", lambda self: {1, 2})
    with pytest.raises(ModelError, match=r"_extra_state is a set, which a checkpoint cannot hold"):
        sitting.trainer()


@pytest.mark.parametrize("shards_too", [True, False])
def test_a_dataset_that_is_prepared_again_meanwhile_ends_the_training(
    sitting: Sitting, made: Callable[..., Made], tmp_path: Path, shards_too: bool
) -> None:
    sitting.dataset = tmp_path / "dataset"
    shutil.copytree(made().path, sitting.dataset)

    def prepare_again(step: int) -> None:
        if step != 3:
            return
        if shards_too:  # those of the validation have not been opened yet
            shutil.rmtree(tmp_path / "dataset")
            shutil.copytree(made(seed=1).path, tmp_path / "dataset")
        else:
            shutil.copy(made(seed=1).path / "manifest.json", tmp_path / "dataset")

    with pytest.raises(DatasetError, match=r"dataset: the dataset changed under the running training: its digest was"):
        sitting.fitted(before=prepare_again, every_steps=2, asynchronous=False)
    last = STEPS - 1 if shards_too else STEPS  # the first epoch's end, or what came before its validation
    assert sitting.names()[0] == f"step-{last:09d}"


@pytest.fixture
def tiny_disk(sitting: Sitting) -> Iterator[Path]:
    """The directory of the checkpoints, on a file system with room for one, not for two: no fewer are ever written."""
    sitting.directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(sitting.directory)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        yield sitting.directory
    finally:
        subprocess.run(["umount", "--lazy", sitting.directory], check=True)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_ends_the_training_at_the_next_step_and_leaves_the_older_ones_whole(
    sitting: Sitting, tiny_disk: Path, asynchronous: bool
) -> None:
    with pytest.raises(TrainingError) as caught:
        sitting.fitted(every_steps=1, keep=100, asynchronous=asynchronous)
    assert str(caught.value).startswith(f"{tiny_disk}: the checkpoint of step ")
    assert "cannot be written (No space left on device); free some space" in str(caught.value)
    kept = sitting.names()
    assert 0 < len(kept) < 2 * STEPS
    assert len(_digests(sitting)) == len(kept) == len(list(tiny_disk.iterdir()))
