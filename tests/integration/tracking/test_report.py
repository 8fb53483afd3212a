"""Baselines, the digest of the test rows and the reason against a registration: in MLflow and in the document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from farandole.spec import Job
from farandole.tracking.store import VIEW_TAG
from farandole.training import rank
from tests.support.recorded_run import RecordedRun, train_in_process

MakeJob = Callable[..., Job]


def train(home: Path, make_job: MakeJob, **changes: Any) -> RecordedRun:
    """Train a regression, whose model is to be registered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank, "_BOOSTING_TIMEOUT_S", 240.0)  # other tests have a higher priority
        return train_in_process(make_job("regression", **changes), home, patch)


@pytest.fixture(scope="module")
def learned(module_home: Path, make_module_job: MakeJob) -> RecordedRun:
    return train(module_home, make_module_job, train__epochs=6, name="learned")


@pytest.fixture(scope="module")
def unlearned(module_home: Path, make_module_job: MakeJob) -> RecordedRun:
    """Train with a learning rate with which nothing is learned."""
    optimizer = {"name": "sgd", "learning_rate": 1e-9}
    return train(module_home, make_module_job, train__epochs=1, train__optimizer=optimizer, name="unlearned")


def test_every_run_has_its_baselines(learned: RecordedRun) -> None:
    document, metrics = learned.result["training"], learned.run.data.metrics
    baselines = document["evaluation"]["baselines"]
    assert set(baselines) == {"mean", "hist_gradient_boosting"}
    assert baselines["mean"]["r2"] == pytest.approx(0, abs=0.1)
    assert baselines["hist_gradient_boosting"]["r2"] > 0.8
    for name, found in baselines.items():
        for metric, value in found.items():
            assert metrics[f"baseline.{name}.{metric}"] == pytest.approx(value)
    low, high = document["evaluation"]["intervals"]["test"]["rmse"]
    assert low < document["metrics"]["test"]["rmse"] < high
    path = mlflow.artifacts.download_artifacts(
        run_id=learned.run.info.run_id,
        artifact_path="evaluation/report.json",
        tracking_uri=f"sqlite:///{learned.home / 'mlflow.db'}",
    )
    assert json.loads(Path(path).read_text())["intervals"] == document["evaluation"]["intervals"]


def test_validation_in_mlflow_is_that_of_the_weights_of_the_model(learned: RecordedRun) -> None:
    document, metrics = learned.result["training"], learned.run.data.metrics
    for name, value in document["metrics"]["validation"].items():
        assert metrics[f"validation.{name}"] == pytest.approx(value)
    for name, value in document["metrics"]["test"].items():
        assert metrics[f"test.{name}"] == pytest.approx(value)
    assert 1 <= document["best_epoch"] <= document["epochs"] == 6


@pytest.mark.parametrize(("restores_best", "notes"), [(True, "are kept;"), (False, "of the last epoch are kept")])
def test_the_model_is_linked_to_the_step_of_its_weights(
    home: Path, make_job: MakeJob, restores_best: bool, notes: str
) -> None:
    """A learning rate that is far too high makes later epochs worse."""
    changes = {
        "epochs": 4,
        "early_stopping": {"restore_best": restores_best, "patience": 9},
        "optimizer": {"name": "sgd", "learning_rate": 10.0},
        "metrics": ["log_loss"],
        "baseline": "off",
    }
    with pytest.MonkeyPatch.context() as patch:
        recorded = train_in_process(make_job(train=changes, name="worse"), home, patch, register=False)
    training = recorded.result["training"]
    step = training["weights_step"]
    assert training["best_epoch"] < 4
    assert step == (training["steps"] // 4 * training["best_epoch"] if restores_best else training["steps"])
    (output,) = recorded.run.outputs.model_outputs
    assert output.step == step
    history = recorded.client.get_metric_history(recorded.run.info.run_id, "validation.log_loss")
    values = [point.value for point in history if point.step == step]
    assert values == pytest.approx([training["metrics"]["validation"]["log_loss"]] * 2)
    assert any(notes in note for note in training["evaluation"]["notes"])


def test_the_users_metric_is_a_tag_of_the_version_and_a_column_of_the_experiment(home: Path, make_job: MakeJob) -> None:
    changes = {"epochs": 1, "metrics": ["network:first_output", "roc_auc"], "baseline": "off", "keep": "last"}
    with pytest.MonkeyPatch.context() as patch:
        recorded = train_in_process(make_job(train=changes, name="own"), home, patch)
    version = recorded.client.get_model_version("own", "1")
    assert version.tags["test.network.first_output"]
    experiment = recorded.client.get_experiment(recorded.run.info.experiment_id)
    columns = json.loads(experiment.tags[VIEW_TAG])["selectedColumns"]
    names = {column.removeprefix("metrics.`").rstrip("`") for column in columns if column.startswith("metrics.")}
    assert "validation.network.first_output" in names
    assert names <= set(recorded.run.data.metrics)


def test_runs_on_the_same_test_rows_have_the_same_digest(learned: RecordedRun, unlearned: RecordedRun) -> None:
    tags = [recorded.run.data.tags["farandole.test_rows_digest"] for recorded in (learned, unlearned)]
    assert tags[0] == tags[1] == learned.result["training"]["evaluation"]["test_rows_digest"]


def test_a_model_that_does_not_beat_the_mean_is_logged_but_not_registered(
    learned: RecordedRun, unlearned: RecordedRun
) -> None:
    assert learned.result["model"] == {"uri": "models:/learned/1", "not_registered": None}
    model = unlearned.result["model"]
    assert model["uri"].startswith("models:/m-")
    assert "predicting the mean has" in model["not_registered"]
    assert "steps were too few to learn anything" in model["not_registered"]
    assert unlearned.run.data.tags["farandole.worse_than_baseline"] == model["not_registered"]
    (warning,) = [each["text"] for each in unlearned.messages if "trivial baseline" in each.get("text", "")]
    assert "it is logged, but not registered as unlearned; --register-anyway registers it" in warning
    assert not unlearned.client.search_registered_models("name = 'unlearned'")


def test_a_model_is_registered_anyway_if_the_user_insists(module_home: Path, make_module_job: MakeJob) -> None:
    changes = {"train__optimizer": {"name": "sgd", "learning_rate": 1e-9}, "tracking__register_anyway": True}
    recorded = train(
        module_home, make_module_job, train__epochs=1, train__baseline="trivial", name="insists", **changes
    )
    assert recorded.result["model"] == {"uri": "models:/insists/1", "not_registered": None}
    assert set(recorded.result["training"]["evaluation"]["baselines"]) == {"mean"}
