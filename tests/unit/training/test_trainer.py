"""The training loop, by a real Horovod gang of one; gangs of several are in tests/launch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.train.cases import TRAINING_CASES
from farandole.errors import ModelError, SpecError, TrainingError
from farandole.events import Event, Message, Progress
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training import world
from farandole.training.checkpoint import weights_digest
from farandole.training.model_builder import build_model
from farandole.training.trainer import Trainer
from tests.support.made_data import BATCH_ROWS, ROWS, Made

MakeJob = Callable[..., Job]
STEPS = -(-ROWS["train"] // BATCH_ROWS)


class Sitting:
    """Makes trainers, and remembers what they say and log."""

    def __init__(self, gang: world.World, directory: Path) -> None:
        self._gang, self._directory = gang, directory
        self.events: list[Event] = []
        self.logged: dict[str, list[tuple[int, float]]] = {}

    def trainer(self, job: Job) -> Trainer:
        dataset = Dataset(job.data.output)
        torch.manual_seed(job.train.seed)
        return Trainer(
            job=job,
            dataset=dataset,
            model=build_model(job, dataset.manifest.columns),
            gang=self._gang,
            device=torch.device("cpu"),
            directory=self._directory,
            identity="the same",
            on_event=self.events.append,
            log=self._log,
        )

    def fitted(self, job: Job) -> Trainer:
        trainer = self.trainer(job)
        trainer.fit()
        return trainer

    def forget(self) -> None:
        """The next training begins from the start: there is no checkpoint of this one to go on from."""
        shutil.rmtree(self._directory)

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    def _log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.logged.setdefault(name, []).append((step, value))


@pytest.fixture
def sitting(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sitting]:
    monkeypatch.setenv(world.WORKERS_VARIABLE, "1")
    # Each test has a module `network` of its own folder.
    monkeypatch.delitem(__import__("sys").modules, "network", raising=False)
    with world.init() as gang:
        yield Sitting(gang, tmp_path / "checkpoints")


def test_the_loss_falls_and_every_step_and_epoch_is_logged(sitting: Sitting, make_job: MakeJob) -> None:
    trainer = sitting.fitted(make_job())
    losses = sitting.logged["train.loss"]
    assert [step for step, _ in losses] == list(range(1, 2 * STEPS + 1))
    values = [value for _, value in losses]
    assert sum(values[-8:]) / 8 < 0.8 * values[0]
    assert [step for step, _ in sitting.logged["validation.roc_auc"]] == [STEPS, 2 * STEPS]
    assert trainer.validation["roc_auc"] == sitting.logged["validation.roc_auc"][-1][1] > 0.9
    assert trainer.rows_per_s > 0
    assert trainer.time_split.compute_s > 0


@pytest.mark.parametrize(("kind", "metric", "least"), [("multiclass", "accuracy", 0.7), ("regression", "r2", 0.7)])
def test_every_kind_of_label_is_learned(
    sitting: Sitting, make_job: MakeJob, kind: str, metric: str, least: float
) -> None:
    trainer = sitting.fitted(make_job(kind, train__epochs=6))
    result = trainer.evaluate("test")
    assert result is not None
    assert result.metrics[metric] > least
    assert len(result.label) == ROWS["test"]


def test_training_goes_on_where_it_was_interrupted_with_the_same_bits(sitting: Sitting, make_job: MakeJob) -> None:
    schedule = {"schedule": {"name": "constant"}, "global_batch_size": 100, "tail": "drop"}
    whole = sitting.fitted(make_job(train={"epochs": 3, "checkpoint": {"keep": 3}, **schedule}))
    digest = weights_digest(whole.model.state_dict())
    newest = max(sitting._directory.glob("step-*"))
    (newest / "state.pt").write_bytes(b"torn")

    again = sitting.fitted(make_job(train={"epochs": 3, "checkpoint": {"keep": 3}, **schedule}))

    assert weights_digest(again.model.state_dict()) == digest
    assert again.steps_done == whole.steps_done == 3 * (ROWS["train"] // 100)
    assert f"goes on after epoch 2, step {2 * (ROWS['train'] // 100)}" in sitting.notes()


def test_a_finished_training_that_is_resumed_keeps_its_weights(sitting: Sitting, make_job: MakeJob) -> None:
    job = make_job(train__epochs=1)
    first = sitting.fitted(job)
    again = sitting.fitted(job)
    assert again.steps_done == first.steps_done
    assert weights_digest(again.model.state_dict()) == weights_digest(first.model.state_dict())
    assert again.validation == first.validation


def test_a_loss_that_is_no_number_ends_the_training(sitting: Sitting, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_diverging", "options": {}})
    text = (
        r"train: the loss is nan at step 1 on rank 0, in rows (\d+, ){4}\d+ and 59 more of the training split: the"
        r" output of the network is not finite; lower .*\(0\.02\) or set"
    )
    with pytest.raises(TrainingError, match=text):
        sitting.fitted(job)


def test_outputs_of_a_wrong_shape_are_the_users_error(sitting: Sitting, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_two_wide", "options": {}})
    with pytest.raises(ModelError, match=r"forward returned torch\.float32 \[64, 2\]; return .* shape \[64, 1\]"):
        sitting.fitted(job)


@pytest.mark.parametrize(
    ("builder", "text"),
    [
        ("build_nothing", "returned str; return a torch.nn.Module"),
        ("build_fixed", "returned a module without parameters that learn"),
    ],
)
def test_what_is_no_network_is_refused(sitting: Sitting, make_job: MakeJob, builder: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        sitting.trainer(make_job(model={"builder": f"network:{builder}", "options": {}}))


def test_a_clipped_gradient_moves_the_weights_no_further_than_the_norm(sitting: Sitting, make_job: MakeJob) -> None:
    sgd: dict[str, Any] = {"name": "sgd", "learning_rate": 1.0}
    job = make_job(train={"epochs": 1, "global_batch_size": ROWS["train"], "optimizer": sgd, "clip_norm": 0.001})
    before = {name: value.clone() for name, value in sitting.trainer(job).model.state_dict().items()}
    after = sitting.fitted(job).model.state_dict()
    moved = torch.sqrt(sum(((after[name] - before[name]) ** 2).sum() for name in before))
    assert float(moved) == pytest.approx(0.001, rel=1e-3)


def test_the_schedule_reaches_the_optimizer(sitting: Sitting, make_job: MakeJob) -> None:
    schedule = {"name": "linear", "warmup": 0.5, "final": 0.0}
    sitting.fitted(make_job(train__epochs=1, train__schedule=schedule, train__log_every_steps=1))
    rates = [rate for _, rate in sitting.logged["train.learning_rate"]]
    assert max(rates) == pytest.approx(0.02)
    assert rates[0] < rates[4] < max(rates) > rates[-1] > 0


def test_progress_counts_every_row(sitting: Sitting, make_job: MakeJob) -> None:
    sitting.fitted(make_job())
    last = [event for event in sitting.events if isinstance(event, Progress)][-1]
    assert (last.done, last.total) == (2 * ROWS["train"], 2 * ROWS["train"])
    assert last.text == "epoch 2 of 2"


def test_a_split_without_rows_is_not_evaluated(
    sitting: Sitting, make_job: MakeJob, made: Callable[..., Made], tmp_path: Path
) -> None:
    from farandole.shards import write_manifest

    whole = made().manifest
    (tmp_path / "part").mkdir()
    for name in ("train", "validation", "test"):
        (tmp_path / "part" / name).symlink_to(made().path / name)
    write_manifest(tmp_path / "part", whole.model_copy(update={"splits": {**whole.splits, "validation": ()}}))
    trainer = sitting.fitted(make_job(data__output=str(tmp_path / "part"), train__epochs=1))
    assert trainer.validation == {}
    assert trainer.evaluate("validation") is None
    assert not any(name.startswith("validation.") for name in sitting.logged)


def test_checkpoints_follow_the_spec(sitting: Sitting, make_job: MakeJob) -> None:
    sitting.fitted(make_job(train__epochs=5, train__checkpoint={"every_epochs": 2, "keep": 2}))
    steps = sorted(path.name for path in sitting._directory.iterdir())
    assert steps == [f"step-{4 * STEPS:09d}", f"step-{5 * STEPS:09d}"]  # the last epoch is always saved


def test_training_rows_are_augmented_and_the_others_never(sitting: Sitting, make_job: MakeJob, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    model = {"builder": "network:build_noting_rows", "options": {"marks": str(marks)}}
    augment = {"row": {"kind": "numbers", "dropout": 1.0}, "dense": {"kind": "numbers", "noise": 0.1}}
    trainer = sitting.fitted(make_job(model=model, train__epochs=1, train__augment=augment))
    assert set((marks / "rank-0").read_text().split()) == {"0.0"}
    result = trainer.evaluate("test")
    assert result is not None
    block = Dataset(trainer.job.data.output).split("test").block(0)
    trainer.model.eval()
    with torch.no_grad():
        groups = {name: torch.tensor(values) for name, values in block.items() if name != "label"}
        assert torch.allclose(trainer.model(**groups), result.outputs[: len(block["label"])])
    assert block["row"].any()


def test_an_augmentation_that_does_not_fit_the_dataset_is_refused(sitting: Sitting, make_job: MakeJob) -> None:
    job = make_job(train__augment={"dense": {"kind": "numbers", "noise": 1, "features": ["widht"]}})
    with pytest.raises(SpecError, match=r"train\.augment\.dense\.features: .* no column widht; did you mean width"):
        sitting.trainer(job)


def test_the_learning_rate_follows_the_global_batch_and_a_plateau(sitting: Sitting, make_job: MakeJob) -> None:
    train = {
        "epochs": 4,
        "global_batch_size": 64,
        "optimizer": {"name": "sgd", "learning_rate": 0.01, "base_batch_size": 32},
        "schedule": {"name": "plateau", "factor": 0.5, "patience": 0, "metric": "accuracy", "direction": "min"},
        "log_every_steps": STEPS,
    }
    sitting.fitted(make_job(train=train))
    rates = [rate for _, rate in sitting.logged["train.learning_rate"]]
    accuracies = [value for _, value in sitting.logged["validation.accuracy"]]
    expected, best = [0.02], accuracies[0]
    for accuracy in accuracies[1:-1]:
        expected.append(expected[-1] * (1.0 if accuracy < best else 0.5))
        best = min(best, accuracy)
    assert rates == pytest.approx([0.02, *expected])


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"early_stopping": {"patience": 1}}, "early_stopping"),
        ({"schedule": {"name": "plateau"}}, "schedule: plateau"),
    ],
)
def test_what_goes_by_validation_needs_validation_rows(
    sitting: Sitting, make_job: MakeJob, made: Callable[..., Made], tmp_path: Path, changes: dict[str, Any], place: str
) -> None:
    from farandole.shards import write_manifest

    whole = made().manifest
    (tmp_path / "part").mkdir()
    for name in ("train", "validation", "test"):
        (tmp_path / "part" / name).symlink_to(made().path / name)
    write_manifest(tmp_path / "part", whole.model_copy(update={"splits": {**whole.splits, "validation": ()}}))
    job = make_job(data__output=str(tmp_path / "part"), train=changes)
    with pytest.raises(SpecError, match=rf"train\.{place}: there are no validation rows to go by; set data\.split"):
        sitting.trainer(job)


def test_weights_that_are_no_numbers_any_more_are_named(sitting: Sitting, make_job: MakeJob) -> None:
    trainer = sitting.trainer(make_job())
    name, parameter = list(trainer.model.named_parameters())[-1]
    parameter.data.fill_(float("inf"))
    with pytest.raises(TrainingError, match=rf"the weights {name} are not finite any more; lower"):
        trainer.fit()


def test_a_gradient_that_is_not_finite_names_weights_and_row(sitting: Sitting, make_job: MakeJob) -> None:
    trainer = sitting.trainer(make_job(model={"builder": "network:build_overflowing", "options": {}}))
    text = r"the gradient of .+ is not finite at step 1 on rank 0, from row \d+"
    with pytest.raises(TrainingError, match=text) as told:
        trainer.fit()
    rows = trainer._row_ids(0, 0)
    number = int(str(told.value).partition("from row ")[2].split()[0])
    assert number in rows
    reader = Dataset(trainer.job.data.output).split("train")
    values = [value for block in range(len(reader.block_rows)) for value in reader.block(block)["row"][:, 0].tolist()]
    assert values[number] > sorted(values[row] for row in rows)[(len(rows) - 1) // 2]  # only those above the median


def test_the_average_of_the_weights_is_what_is_tested_and_logged(sitting: Sitting, make_job: MakeJob) -> None:
    trainer = sitting.fitted(make_job(train__ema={"decay": 0.9}))
    state = torch.load(max(sitting._directory.glob("step-*")) / "state.pt", weights_only=True)
    for name, average in state["average"]["averages"].items():
        assert torch.equal(trainer.model.state_dict()[name], average)
        assert not torch.equal(state["model"][name], average)
    result = trainer.evaluate("validation")
    assert result is not None
    assert result.metrics == trainer.validation


def test_a_setting_without_effect_is_warned_of(sitting: Sitting, make_job: MakeJob) -> None:
    sitting.trainer(make_job(train__channels_last=True))
    assert "train.channels_last: the network has no convolutions of images, so it has no effect" in sitting.notes()


@pytest.mark.slow(seconds=50)
def test_a_compiled_network_learns_the_same(sitting: Sitting, make_job: MakeJob) -> None:
    # No dropout: compiled code draws other numbers.
    mlp = {"builder": "farandole.models.mlp:build", "options": {"hidden": [16, 8], "dropout": 0.0}}
    plain = sitting.fitted(make_job(train__epochs=1, model=mlp))
    losses = [value for _, value in sitting.logged.pop("train.loss")]
    sitting.forget()
    compiled = sitting.fitted(make_job(train__epochs=1, train__compile=True, model=mlp))
    assert [value for _, value in sitting.logged["train.loss"]] == pytest.approx(losses, rel=1e-4)
    weights = compiled.model.state_dict()
    assert list(weights) == list(plain.model.state_dict())  # no `_orig_mod.`: a checkpoint fits with and without
    torch.testing.assert_close(weights, plain.model.state_dict(), rtol=1e-3, atol=1e-4)


def test_convolutions_in_channels_last_learn_the_same(sitting: Sitting, tmp_path: Path) -> None:
    case = TRAINING_CASES["mnist_cnn"]
    case.write(tmp_path / "images", 3)
    (tmp_path / "images" / "drawn.csv").write_text("x,y\n")
    job = case.job(tmp_path / "images", 1)
    plain = sitting.fitted(job).model.state_dict()
    sitting.forget()
    train = job.train.model_copy(update={"channels_last": True})
    trainer = sitting.fitted(job.model_copy(update={"train": train}))
    weights = trainer.model.state_dict()
    kernels = [tensor for tensor in weights.values() if tensor.ndim == 4 and tensor.shape[1] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    torch.testing.assert_close(weights, plain, rtol=1e-3, atol=1e-4)
    assert sitting.notes() == []
