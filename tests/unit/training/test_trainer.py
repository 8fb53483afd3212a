"""Training loop in a gang of one. Gangs of several ranks are in tests/integration/training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from farandole.errors import ModelError
from farandole.events import Event, Progress
from farandole.spec import Job
from farandole.training.checkpoint import weights_digest
from farandole.training.stop import Stopped
from tests.support.made_data import BATCH_ROWS, ROWS, Made
from tests.support.trainer_harness import Harness

MakeJob = Callable[..., Job]
STEPS = -(-ROWS["train"] // BATCH_ROWS)


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


def test_regression_is_evaluated_in_the_units_of_its_label(
    harness: Harness, make_job: MakeJob, made: Callable[..., Made]
) -> None:
    result = harness.fit(make_job("regression", train__epochs=6)).evaluate("test")
    assert result is not None
    raw = made("regression").raw["test"]["label"].to_numpy()
    assert result.label.dtype == result.outputs.dtype == torch.float64
    assert np.sort(result.label.numpy()) == pytest.approx(np.sort(raw), rel=1e-6, abs=1e-5)
    errors = (result.outputs[:, 0] - result.label).numpy()
    assert result.metrics["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-12)
    assert result.metrics["rmse"] < raw.std() / 2


def test_outputs_start_at_the_frequencies_of_the_classes(
    harness: Harness, make_job: MakeJob, made: Callable[..., Made]
) -> None:
    job = make_job(model={"builder": "network:build_with_prior", "options": {}})
    raw = made().raw["train"]["label"].mean()
    prior = harness.trainer(job).model.prior
    assert isinstance(prior, torch.Tensor)
    assert prior.sigmoid().item() == pytest.approx(raw)


def test_failing_initialization_of_the_outputs_names_the_builder(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_with_prior", "options": {"fails": True}})
    with pytest.raises(ModelError, match=r"build_with_prior: initialize_output: raised ValueError: no bias"):
        harness.trainer(job)


def test_complex_weights_and_buffers_are_trained_and_saved(harness: Harness, make_job: MakeJob) -> None:
    model = {"builder": "network:build_complex", "options": {}}
    trainer = harness.fit(make_job(model=model, train={"epochs": 4, "global_batch_size": BATCH_ROWS}))
    result = trainer.evaluate("test")
    assert result is not None
    assert result.metrics["roc_auc"] > 0.55
    assert trainer.model.mirrored.tolist() == [1 - 2j]  # type: ignore[operator]
    again = harness.fit(make_job(model=model, train={"epochs": 4, "global_batch_size": BATCH_ROWS}))
    assert weights_digest(again.model.state_dict()) == weights_digest(trainer.model.state_dict())


def test_network_receives_a_sample_of_training_rows(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.trainer(make_job(model={"builder": "network:build_with_sample", "options": {}}))
    sample: Any = trainer.model.sample
    schema = trainer.dataset.manifest.columns
    assert set(sample) == {group.name for group in schema.groups}
    assert {len(values) for values in sample.values()} == {trainer.dataset.split("train").block_rows[0]}


def test_failing_initialization_of_the_inputs_names_the_builder(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_with_sample", "options": {"fails": True}})
    with pytest.raises(ModelError, match=r"build_with_sample: initialize_inputs: raised ValueError: no sample"):
        harness.trainer(job)


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


@pytest.mark.parametrize("changes", [{}, {"shard_optimizer": True}, {"ema": {"decay": 0.5}}])
def test_the_weights_of_the_best_epoch_are_kept(harness: Harness, make_job: MakeJob, changes: dict[str, Any]) -> None:
    """A learning rate that is far too high makes later epochs worse."""
    train = {
        "epochs": 5,
        "global_batch_size": BATCH_ROWS,
        "optimizer": {"name": "sgd", "learning_rate": 10.0},
        "metrics": ["log_loss"],
        **changes,
    }
    trainer = harness.fit(make_job(train=train))
    assert harness.result is not None
    losses = [metrics["log_loss"] for metrics in harness.result.epochs]
    best = min(range(5), key=losses.__getitem__)
    assert best < 4
    assert harness.result.best_epoch == best + 1
    assert harness.result.weights_step == STEPS * (best + 1)
    assert harness.result.validation == {"log_loss": losses[best]}
    evaluated = trainer.evaluate("validation")
    assert evaluated is not None
    assert evaluated.metrics["log_loss"] == pytest.approx(losses[best], rel=1e-6)
    steps = [step for step, _ in harness.logged["validation.log_loss"]]
    assert steps == [STEPS * epoch for epoch in (1, 2, 3, 4, 5, 5)]
    assert harness.logged["validation.log_loss"][-1] == (5 * STEPS, losses[best])
    assert harness.result.weights_digest == weights_digest(trainer.model.state_dict())


@pytest.mark.parametrize("changes", [{"keep": "last"}, {"early_stopping": {"restore_best": False, "patience": 9}}])
def test_the_last_weights_are_kept_if_configured(harness: Harness, make_job: MakeJob, changes: dict[str, Any]) -> None:
    train = {"epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 30.0}, "metrics": ["log_loss"], **changes}
    harness.fit(make_job(train=train))
    assert harness.result is not None
    assert harness.result.best_epoch in (1, 2)
    assert harness.result.weights_step == harness.result.steps
    assert harness.result.validation == harness.result.epochs[-1]
    assert len(harness.logged["validation.log_loss"]) == 3


def test_the_best_epoch_survives_an_interruption(harness: Harness, make_job: MakeJob) -> None:
    train = {"optimizer": {"name": "sgd", "learning_rate": 30.0}, "metrics": ["log_loss"], "checkpoint": {"keep": 9}}
    whole = harness.fit(make_job(train={"epochs": 5, **train})).model.state_dict()
    for path in sorted(harness.directory.glob("step-*"))[-1:]:
        (path / "state.pt").write_bytes(b"torn")
    before = harness.result
    again = harness.fit(make_job(train={"epochs": 5, **train})).model.state_dict()
    assert before is not None
    assert harness.result is not None
    assert harness.result.epochs == before.epochs
    assert harness.result.best_epoch == before.best_epoch
    assert weights_digest(again) == weights_digest(whole)


def test_a_metric_without_a_direction_keeps_the_last_weights_with_a_warning(
    harness: Harness, make_job: MakeJob
) -> None:
    harness.fit(make_job(train={"epochs": 1, "metrics": ["network:first_output"]}))
    assert any("higher values of network:first_output are better, so the last" in text for text in harness.messages())


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


def test_checkpoints_follow_the_spec(harness: Harness, make_job: MakeJob) -> None:
    harness.fit(make_job(train__epochs=5, train__checkpoint={"every_epochs": 2, "keep": 2}))
    steps = sorted(path.name for path in harness.directory.iterdir())
    assert steps == [f"step-{4 * STEPS:09d}", f"step-{5 * STEPS:09d}"]  # the last epoch is always saved


@pytest.mark.parametrize("best_is", ["highest", "lowest"])
def test_checkpoint_with_the_best_value_of_the_users_metric_is_kept(
    harness: Harness, make_job: MakeJob, best_is: str
) -> None:
    metric = "network:first_output"
    checkpoint = {"keep": 1, "keep_best": 1, "best_metric": metric, "best_is": best_is}
    harness.fit(make_job(train={"epochs": 4, "metrics": [metric], "checkpoint": checkpoint, "keep": "last"}))
    points = harness.logged["validation.network.first_output"]
    best = (max if best_is == "highest" else min)(points, key=lambda point: point[1])
    steps = {int(path.name.removeprefix("step-")) for path in harness.directory.iterdir()}
    assert steps == {best[0], points[-1][0]}


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


def test_averaged_weights_are_evaluated_and_kept(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.fit(make_job(train__ema={"decay": 0.9}, train__keep="last"))
    state = torch.load(max(harness.directory.glob("step-*")) / "state.pt", weights_only=True)
    for name, average in state["average"]["averages"].items():
        assert torch.equal(trainer.model.state_dict()[name], average)
        assert not torch.equal(state["model"][name], average)
    result = trainer.evaluate("validation")
    assert result is not None
    assert result.metrics == trainer.validation


REFIT_STEPS = 2 * -(-ROWS["validation"] // (BATCH_ROWS // 2))
REFIT = {
    "epochs": 2,
    "global_batch_size": BATCH_ROWS,
    "log_every_steps": 1,
    "refit": {"epochs": 2, "learning_rate": 0.5},
}


def test_refit_learns_the_validation_rows_after_their_metrics(harness: Harness, make_job: MakeJob) -> None:
    before = harness.fit(make_job(train={**REFIT, "refit": None}))
    validation = before.validation
    harness.remove_checkpoints()
    after = harness.fit(make_job(train=REFIT))
    assert harness.result is not None
    assert (harness.result.steps, harness.result.refit_steps) == (2 * STEPS + REFIT_STEPS, REFIT_STEPS)
    assert harness.result.weights_step <= 2 * STEPS
    assert harness.result.validation == validation
    assert harness.result.weights_digest == weights_digest(after.model.state_dict())
    assert weights_digest(after.model.state_dict()) != weights_digest(before.model.state_dict())
    learned, known = after.evaluate("validation"), before.evaluate("validation")
    assert learned is not None
    assert known is not None
    assert learned.metrics["log_loss"] < known.metrics["log_loss"]


def test_refit_counts_its_rows_and_its_learning_rate_falls_to_0(harness: Harness, make_job: MakeJob) -> None:
    harness.fit(make_job(train=REFIT))
    last = [event for event in harness.events if isinstance(event, Progress)][-1]
    assert last.done == last.total > 2 * ROWS["train"] + 2 * ROWS["validation"]
    assert last.text == "refit, pass 2 of 2"
    rates = [rate for step, rate in harness.logged["train.learning_rate"] if step > 2 * STEPS]
    assert len(rates) == REFIT_STEPS
    assert 0 < rates[-1] < max(rates) <= 0.02 * 0.5
    assert max(step for step, _ in harness.logged["validation.log_loss"]) == 2 * STEPS


@pytest.mark.parametrize("changes", [{}, {"shard_optimizer": True}])
def test_refit_begins_with_a_new_state_of_the_optimizer(
    harness: Harness, make_job: MakeJob, changes: dict[str, Any]
) -> None:
    trainer = harness.fit(make_job(train={**REFIT, "optimizer": {"name": "adamw", "learning_rate": 0.02}, **changes}))
    states = trainer.state_dict()["optimizer"]["state"].values()
    assert {int(state["step"]) for state in states} == {REFIT_STEPS}


@pytest.mark.parametrize("changes", [{}, {"shard_optimizer": True}, {"ema": {"decay": 0.5}}, {"keep": "last"}])
@pytest.mark.parametrize("dies", [True, False])
def test_interrupted_refit_begins_again_and_has_the_same_weights(
    harness: Harness, make_job: MakeJob, changes: dict[str, Any], dies: bool
) -> None:
    job = make_job(train={**REFIT, **changes})
    whole = harness.fit(job)
    steps = harness.result.steps if harness.result is not None else 0
    harness.remove_checkpoints()
    trainer = harness.trainer(job)

    def interrupt(event: Event) -> None:
        if trainer.steps_done == 2 * STEPS + REFIT_STEPS:  # the last step; it is reported before ranks agree to stop
            if dies:
                raise KeyboardInterrupt
            trainer.request_stop()

    trainer.on_event = interrupt
    with pytest.raises(KeyboardInterrupt if dies else Stopped):
        trainer.fit()
    again = harness.fit(job)
    assert weights_digest(again.model.state_dict()) == weights_digest(whole.model.state_dict())
    assert harness.result is not None
    assert (harness.result.steps, harness.result.refit_steps) == (steps, REFIT_STEPS)


def test_more_epochs_continue_from_the_weights_before_the_refit(harness: Harness, make_job: MakeJob) -> None:
    train = {**REFIT, "schedule": {"name": "constant"}}
    harness.fit(make_job(train=train))
    longer = harness.fit(make_job(train={**train, "epochs": 3}))
    harness.remove_checkpoints()
    whole = harness.fit(make_job(train={**train, "epochs": 3}))
    assert weights_digest(longer.model.state_dict()) == weights_digest(whole.model.state_dict())
