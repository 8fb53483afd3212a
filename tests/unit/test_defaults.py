"""Values of the fields that are `auto`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farandole.defaults import TABULAR, Table, batch_for, chosen_values, epochs_for, resolve, resolve_for
from farandole.shards import read_manifest
from farandole.spec import EarlyStopping, Ema, Job, Refit, with_overrides

MakeJob = Callable[..., Job]
AUTO = {"epochs": "auto", "global_batch_size": "auto", "optimizer": {"name": "adamw"}}


def _tabular(make_job: MakeJob, **train: object) -> Job:
    return make_job(model={"builder": TABULAR, "options": {}}, train={**AUTO, **train})


def test_other_builders_keep_the_plain_values(make_job: MakeJob) -> None:
    resolved = resolve_for(make_job(train=AUTO), None).train
    assert (resolved.epochs, resolved.global_batch_size) == (10, 1024)
    assert (resolved.optimizer.learning_rate, resolved.optimizer.weight_decay) == (1e-3, 0.0)
    assert (resolved.learning_rate_schedule.name, resolved.label_smoothing) == ("constant", 0.0)
    assert resolved.optimizer.options == {}


def test_nothing_stays_auto_once_the_dataset_exists(make_job: MakeJob) -> None:
    job = _tabular(make_job)
    resolved = resolve(job, read_manifest(job.data.output))
    assert "auto" not in {
        resolved.train.epochs,
        resolved.train.global_batch_size,
        resolved.train.optimizer.learning_rate,
        resolved.train.optimizer.weight_decay,
        resolved.train.label_smoothing,
    }
    assert resolved.train.schedule != "auto"
    assert resolve(resolved, read_manifest(job.data.output)) == resolved


def test_own_values_win(make_job: MakeJob) -> None:
    job = _tabular(make_job, epochs=7, optimizer={"name": "sgd", "learning_rate": 0.5})
    job = with_overrides(job, {"model.options.members": 3})
    resolved = resolve_for(job, Table(5000, "binary"))
    assert (resolved.train.epochs, resolved.train.optimizer.learning_rate) == (7, 0.5)
    assert resolved.train.optimizer.options == {}
    assert resolved.network.options["members"] == 3


def test_unknown_number_of_rows_leaves_auto(make_job: MakeJob) -> None:
    job = _tabular(make_job)
    assert resolve_for(job, None) == job
    assert chosen_values(job, job) == {}


def test_chosen_values_are_those_that_differ(make_job: MakeJob) -> None:
    job = _tabular(make_job, epochs=7)
    chosen = chosen_values(job, resolve_for(job, Table(5000, "regression")))
    assert "train.epochs" not in chosen
    assert chosen["train.global_batch_size"] == batch_for(5000)
    assert chosen["model.options.members"] == 16


@pytest.mark.parametrize("rows", [0, 1, 150, 5_000, 50_000, 10_000_000])
def test_values_are_possible_for_any_number_of_rows(rows: int) -> None:
    assert 32 <= batch_for(rows) <= 1024
    assert batch_for(rows).bit_count() == 1
    assert 3 <= epochs_for(rows, "regression") <= 200


def test_more_rows_mean_larger_batches_and_at_last_fewer_epochs() -> None:
    batches = [batch_for(rows) for rows in (150, 1500, 15_000, 150_000, 1_500_000)]
    assert batches == sorted(batches)
    epochs = [epochs_for(rows, "binary") for rows in (40_000, 100_000, 300_000, 1_500_000)]
    assert epochs == sorted(epochs, reverse=True)


def test_small_tables_have_enough_steps() -> None:
    assert epochs_for(150, "binary") * -(-150 // batch_for(150)) >= 200


def test_noisy_classes_get_more_epochs_where_more_rows_are_to_be_learned() -> None:
    assert epochs_for(4_000, "binary") < epochs_for(40_000, "binary")


@pytest.mark.parametrize(
    ("train", "metric"),
    [
        ({"metrics": ["roc_auc", "log_loss"]}, "log_loss"),
        ({"metrics": ["roc_auc", "accuracy"]}, "roc_auc"),
        ({"metrics": ["roc_auc", "log_loss"], "class_weights": "balanced"}, "roc_auc"),
    ],
)
def test_best_epoch_of_classes_is_chosen_by_the_log_loss_where_it_says_something(
    make_job: MakeJob, train: dict[str, object], metric: str
) -> None:
    stopping = resolve_for(_tabular(make_job, **train), Table(500, "binary")).train.early_stopping
    assert isinstance(stopping, EarlyStopping)
    assert stopping.metric == metric


def test_weights_are_averaged_over_a_share_of_the_steps(make_job: MakeJob) -> None:
    job = _tabular(make_job, epochs=48, global_batch_size=100)
    average = resolve_for(job, Table(5000, "binary")).train.ema
    assert isinstance(average, Ema)
    assert average.decay == pytest.approx(1 - 1 / 100)
    assert resolve_for(_tabular(make_job, epochs=1), Table(300, "binary")).train.ema is None


def test_no_average_is_taken_if_the_job_says_so_or_for_another_builder(make_job: MakeJob) -> None:
    assert resolve_for(_tabular(make_job, ema=None), Table(5000, "binary")).train.ema is None
    assert resolve_for(make_job(train=AUTO), None).train.ema is None


def test_training_does_not_end_early_without_validation_rows_or_by_a_metric_of_the_user(make_job: MakeJob) -> None:
    assert resolve_for(_tabular(make_job), Table(500, "binary", has_validation=False)).train.early_stopping is None
    job = _tabular(make_job, metrics=["network:own_metric"])
    assert resolve_for(job, Table(500, "binary")).train.early_stopping is None


def test_small_steps_run_in_one_thread_unless_the_job_says_otherwise(make_job: MakeJob) -> None:
    job = with_overrides(_tabular(make_job), {"resources.workers": 1, "resources.cpus": None})
    assert resolve_for(job, Table(2000, "binary")).resources.cpus == 1
    assert resolve_for(job, Table(100_000, "binary")).resources.cpus is None
    own = with_overrides(job, {"resources.cpus": 2})
    assert resolve_for(own, Table(2000, "binary")).resources.cpus == 2


def test_validation_rows_are_learned_at_the_end_where_they_are_the_newest(make_job: MakeJob) -> None:
    table = Table(5000, "regression")
    assert resolve_for(_tabular(make_job), table).train.refit is None
    by_time = with_overrides(_tabular(make_job), {"data.split.time": "date"})
    resolved = resolve_for(by_time, table)
    assert resolved.train.refit == Refit()
    assert chosen_values(by_time, resolved)["train.refit.epochs"] == Refit().epochs
    assert resolve_for(by_time, Table(5000, "regression", has_validation=False)).train.refit is None
    assert resolve_for(with_overrides(by_time, {"train.refit": None}), table).train.refit is None
    other = with_overrides(make_job(train=AUTO), {"data.split.time": "date"})
    assert resolve_for(other, None).train.refit is None
