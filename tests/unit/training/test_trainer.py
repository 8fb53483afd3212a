"""Training loop in a gang of one. Gangs of several ranks are in tests/integration/training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.train.cases import TRAINING_CASES
from farandole.errors import ModelError, SpecError, TrainingError
from farandole.events import Progress
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training.checkpoint import weights_digest
from tests.support.made_data import BATCH_ROWS, ROWS, Made
from tests.support.trainer_harness import Harness, open_harness

MakeJob = Callable[..., Job]
STEPS = -(-ROWS["train"] // BATCH_ROWS)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Return a harness with an empty directory of checkpoints."""
    with open_harness(tmp_path) as harness:
        yield harness


def test_loss_falls_and_every_step_and_epoch_is_logged(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.fit(make_job())
    losses = harness.logged["train.loss"]
    assert [step for step, _ in losses] == list(range(1, 2 * STEPS + 1))
    values = [value for _, value in losses]
    assert sum(values[-8:]) / 8 < 0.8 * values[0]
    assert [step for step, _ in harness.logged["validation.roc_auc"]] == [STEPS, 2 * STEPS]
    assert trainer.validation["roc_auc"] == harness.logged["validation.roc_auc"][-1][1] > 0.9
    result = harness.result
    assert result is not None
    assert (result.workers, result.steps, result.validation) == (1, 2 * STEPS, trainer.validation)
    assert result.rows_per_s > 0
    assert result.time_by_rank == (result.time_split,)
    assert result.time_split.compute_s > 0
    assert result.weights_digest == weights_digest(trainer.model.state_dict())


@pytest.mark.parametrize(("kind", "metric", "least"), [("multiclass", "accuracy", 0.7), ("regression", "r2", 0.7)])
def test_every_kind_of_label_is_learned(
    harness: Harness, make_job: MakeJob, kind: str, metric: str, least: float
) -> None:
    trainer = harness.fit(make_job(kind, train__epochs=6))
    result = trainer.evaluate("test")
    assert result is not None
    assert result.metrics[metric] > least
    assert len(result.label) == ROWS["test"]


def test_interrupted_training_resumes_with_identical_weights(harness: Harness, make_job: MakeJob) -> None:
    schedule = {"schedule": {"name": "constant"}, "global_batch_size": 100, "tail": "drop"}
    whole = harness.fit(make_job(train={"epochs": 3, "checkpoint": {"keep": 3}, **schedule}))
    digest = weights_digest(whole.model.state_dict())
    newest = max(harness.directory.glob("step-*"))
    (newest / "state.pt").write_bytes(b"torn")

    again = harness.fit(make_job(train={"epochs": 3, "checkpoint": {"keep": 3}, **schedule}))

    assert weights_digest(again.model.state_dict()) == digest
    assert again.steps_done == whole.steps_done == 3 * (ROWS["train"] // 100)
    assert f"resuming after epoch 2, step {2 * (ROWS['train'] // 100)}" in harness.messages()


def test_finished_training_keeps_its_weights_when_resumed(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(train__epochs=1)
    first = harness.fit(job)
    again = harness.fit(job)
    assert again.steps_done == first.steps_done
    assert weights_digest(again.model.state_dict()) == weights_digest(first.model.state_dict())
    assert again.validation == first.validation


def test_loss_that_is_nan_ends_training_with_its_rows(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_diverging", "options": {}})
    text = (
        r"train: the loss is nan at step 1 on rank 0, in rows (\d+, ){4}\d+ and 59 more of the training split: the"
        r" output of the network is not finite; lower .*\(0\.02\) or set"
    )
    with pytest.raises(TrainingError, match=text):
        harness.fit(job)


def test_outputs_of_a_wrong_shape_are_reported(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_two_wide", "options": {}})
    with pytest.raises(ModelError, match=r"forward returned torch\.float32 \[64, 2\]; return .* shape \[64, 1\]"):
        harness.fit(job)


@pytest.mark.parametrize(
    ("builder", "text"),
    [
        ("build_nothing", "returned str; return a torch.nn.Module"),
        ("build_fixed", "returned a module without trainable parameters"),
    ],
)
def test_invalid_network_is_rejected(harness: Harness, make_job: MakeJob, builder: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        harness.trainer(make_job(model={"builder": f"network:{builder}", "options": {}}))


def test_clipped_gradient_limits_the_update(harness: Harness, make_job: MakeJob) -> None:
    sgd: dict[str, Any] = {"name": "sgd", "learning_rate": 1.0}
    job = make_job(train={"epochs": 1, "global_batch_size": ROWS["train"], "optimizer": sgd, "clip_norm": 0.001})
    before = {name: value.clone() for name, value in harness.trainer(job).model.state_dict().items()}
    after = harness.fit(job).model.state_dict()
    moved = torch.sqrt(sum(((after[name] - before[name]) ** 2).sum() for name in before))
    assert float(moved) == pytest.approx(0.001, rel=1e-3)


def test_schedule_sets_the_learning_rate(harness: Harness, make_job: MakeJob) -> None:
    schedule = {"name": "linear", "warmup": 0.5, "final": 0.0}
    harness.fit(make_job(train__epochs=1, train__schedule=schedule, train__log_every_steps=1))
    rates = [rate for _, rate in harness.logged["train.learning_rate"]]
    assert max(rates) == pytest.approx(0.02)
    assert rates[0] < rates[4] < max(rates) > rates[-1] > 0


def test_progress_counts_every_row(harness: Harness, make_job: MakeJob) -> None:
    harness.fit(make_job())
    last = [event for event in harness.events if isinstance(event, Progress)][-1]
    assert (last.done, last.total) == (2 * ROWS["train"], 2 * ROWS["train"])
    assert last.text == "epoch 2 of 2"


def test_empty_split_is_not_evaluated(
    harness: Harness, make_job: MakeJob, made: Callable[..., Made], tmp_path: Path
) -> None:
    from farandole.shards import write_manifest

    whole = made().manifest
    (tmp_path / "part").mkdir()
    for name in ("train", "validation", "test"):
        (tmp_path / "part" / name).symlink_to(made().path / name)
    write_manifest(tmp_path / "part", whole.model_copy(update={"splits": {**whole.splits, "validation": ()}}))
    trainer = harness.fit(make_job(data__output=str(tmp_path / "part"), train__epochs=1))
    assert trainer.validation == {}
    assert trainer.evaluate("validation") is None
    assert not any(name.startswith("validation.") for name in harness.logged)


def test_checkpoints_follow_the_spec(harness: Harness, make_job: MakeJob) -> None:
    harness.fit(make_job(train__epochs=5, train__checkpoint={"every_epochs": 2, "keep": 2}))
    steps = sorted(path.name for path in harness.directory.iterdir())
    assert steps == [f"step-{4 * STEPS:09d}", f"step-{5 * STEPS:09d}"]  # the last epoch is always saved


def test_only_training_rows_are_augmented(harness: Harness, make_job: MakeJob, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    model = {"builder": "network:build_recording_rows", "options": {"marks": str(marks)}}
    augment = {"row": {"kind": "numbers", "dropout": 1.0}, "dense": {"kind": "numbers", "noise": 0.1}}
    trainer = harness.fit(make_job(model=model, train__epochs=1, train__augment=augment))
    assert set((marks / "rank-0").read_text().split()) == {"0.0"}
    result = trainer.evaluate("test")
    assert result is not None
    block = Dataset(trainer.job.data.output).split("test").block(0)
    trainer.model.eval()
    with torch.no_grad():
        groups = {name: torch.tensor(values) for name, values in block.items() if name != "label"}
        assert torch.allclose(trainer.model(**groups), result.outputs[: len(block["label"])])
    assert block["row"].any()


def test_augmentation_of_an_unknown_column_is_rejected(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(train__augment={"dense": {"kind": "numbers", "noise": 1, "features": ["widht"]}})
    with pytest.raises(SpecError, match=r"train\.augment\.dense\.features: .* no column widht; did you mean width"):
        harness.trainer(job)


def test_learning_rate_follows_global_batch_and_plateau(harness: Harness, make_job: MakeJob) -> None:
    train = {
        "epochs": 4,
        "global_batch_size": 64,
        "optimizer": {"name": "sgd", "learning_rate": 0.01, "base_batch_size": 32},
        "schedule": {"name": "plateau", "factor": 0.5, "patience": 0, "metric": "accuracy", "direction": "min"},
        "log_every_steps": STEPS,
    }
    harness.fit(make_job(train=train))
    rates = [rate for _, rate in harness.logged["train.learning_rate"]]
    accuracies = [value for _, value in harness.logged["validation.accuracy"]]
    expected, best = [0.02], accuracies[0]
    for accuracy in accuracies[1:-1]:
        expected.append(expected[-1] * (1.0 if accuracy < best else 0.5))
        best = min(best, accuracy)
    assert rates == pytest.approx([0.02, *expected])


@pytest.mark.parametrize(
    ("changes", "field_path"),
    [
        ({"early_stopping": {"patience": 1}}, "early_stopping"),
        ({"schedule": {"name": "plateau"}}, "schedule: plateau"),
    ],
)
def test_early_stopping_and_plateau_require_validation_rows(
    harness: Harness,
    make_job: MakeJob,
    made: Callable[..., Made],
    tmp_path: Path,
    changes: dict[str, Any],
    field_path: str,
) -> None:
    from farandole.shards import write_manifest

    whole = made().manifest
    (tmp_path / "part").mkdir()
    for name in ("train", "validation", "test"):
        (tmp_path / "part" / name).symlink_to(made().path / name)
    write_manifest(tmp_path / "part", whole.model_copy(update={"splits": {**whole.splits, "validation": ()}}))
    job = make_job(data__output=str(tmp_path / "part"), train=changes)
    with pytest.raises(
        SpecError,
        match=rf"train\.{field_path}: the dataset has no validation rows to measure progress on; set data\.split",
    ):
        harness.trainer(job)


def test_weights_that_are_not_finite_are_named(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.trainer(make_job())
    name, parameter = list(trainer.model.named_parameters())[-1]
    parameter.data.fill_(float("inf"))
    with pytest.raises(TrainingError, match=rf"the weights {name} are no longer finite; lower"):
        trainer.fit()


def test_gradient_that_is_not_finite_is_reported_with_weights_and_row(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.trainer(make_job(model={"builder": "network:build_overflowing", "options": {}}))
    text = r"the gradient of .+ is not finite at step 1 on rank 0, from row \d+"
    with pytest.raises(TrainingError, match=text) as caught:
        trainer.fit()
    rows = trainer._row_ids(0, 0)
    number = int(str(caught.value).partition("from row ")[2].split()[0])
    assert number in rows
    reader = Dataset(trainer.job.data.output).split("train")
    values = [value for block in range(len(reader.block_rows)) for value in reader.block(block)["row"][:, 0].tolist()]
    assert values[number] > sorted(values[row] for row in rows)[(len(rows) - 1) // 2]  # only those above the median


def test_averaged_weights_are_evaluated_and_kept(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.fit(make_job(train__ema={"decay": 0.9}))
    state = torch.load(max(harness.directory.glob("step-*")) / "state.pt", weights_only=True)
    for name, average in state["average"]["averages"].items():
        assert torch.equal(trainer.model.state_dict()[name], average)
        assert not torch.equal(state["model"][name], average)
    result = trainer.evaluate("validation")
    assert result is not None
    assert result.metrics == trainer.validation


def test_setting_without_effect_causes_a_warning(harness: Harness, make_job: MakeJob) -> None:
    harness.trainer(make_job(train__channels_last=True))
    assert (
        "train.channels_last: the network has no image convolutions, so this setting has no effect"
        in harness.messages()
    )


def test_channels_last_network_learns_the_same(harness: Harness, tmp_path: Path) -> None:
    case = TRAINING_CASES["mnist_cnn"]
    case.write(tmp_path / "images", 3)
    (tmp_path / "images" / "drawn.csv").write_text("x,y\n")
    job = case.job(tmp_path / "images", 1)
    plain = harness.fit(job).model.state_dict()
    harness.remove_checkpoints()
    train = job.train.model_copy(update={"channels_last": True})
    trainer = harness.fit(job.model_copy(update={"train": train}))
    weights = trainer.model.state_dict()
    kernels = [tensor for tensor in weights.values() if tensor.ndim == 4 and tensor.shape[1] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    torch.testing.assert_close(weights, plain, rtol=1e-3, atol=1e-4)
    assert harness.messages() == []
