"""Logged models take raw rows and predict what the network predicted in training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.utils import requirements_utils
from sklearn import metrics as sk

from farandole.bundle import open_bundle
from farandole.spec import Job
from farandole.tracking.model import _requirements_not_compared
from tests.support.made_data import Made
from tests.support.recorded_run import RecordedRun, train_in_process

MakeJob = Callable[..., Job]
KINDS = ("binary", "multiclass", "regression")


@pytest.fixture(scope="module")
def models(module_home: Path, make_module_job: MakeJob) -> dict[str, tuple[RecordedRun, Any]]:
    """Train and load a model for each kind of label, and with a network that cannot be exported."""
    found = {}
    for kind in (*KINDS, "branching"):
        changes: dict[str, Any] = {"train__epochs": 3, "train__baseline": "trivial", "name": kind}
        if kind == "branching":
            changes |= {"model": {"builder": "network:build_branching", "options": {}}}
        job = make_module_job(kind if kind in KINDS else "binary", **changes)
        with pytest.MonkeyPatch.context() as patch:
            recorded = train_in_process(job, module_home, patch, register=kind == "binary")
        mlflow.set_tracking_uri(f"sqlite:///{module_home / 'mlflow.db'}")
        found[kind] = (recorded, mlflow.pyfunc.load_model(recorded.result["model"]["uri"]))
    return found


def _test_rows(made: Callable[..., Made], kind: str) -> pd.DataFrame:
    return made(kind).raw["test"]


def test_binary_predictions_on_the_test_split_give_the_metrics_of_the_result(
    models: dict[str, tuple[RecordedRun, Any]], made: Callable[..., Made]
) -> None:
    for name in ("binary", "branching"):
        recorded, model = models[name]
        rows = _test_rows(made, "binary")
        predictions = model.predict(rows.drop(columns="label"))
        measured = recorded.result["training"]["metrics"]["test"]
        assert list(predictions.columns) == ["prediction", "probability"]
        assert sk.roc_auc_score(rows["label"], predictions["probability"]) == pytest.approx(
            measured["roc_auc"], abs=1e-4
        )
        assert (predictions["prediction"] == rows["label"].astype(str).str.lower()).mean() == pytest.approx(
            measured["accuracy"]
        )
        assert sk.log_loss(rows["label"], predictions["probability"]) == pytest.approx(measured["log_loss"], abs=1e-4)
        assert sk.average_precision_score(rows["label"], predictions["probability"]) == pytest.approx(
            measured["average_precision"], abs=1e-3
        )


def test_multiclass_predictions_give_the_metrics_of_the_result(
    models: dict[str, tuple[RecordedRun, Any]], made: Callable[..., Made]
) -> None:
    recorded, model = models["multiclass"]
    rows = _test_rows(made, "multiclass")
    predictions = model.predict(rows.drop(columns="label"))
    classes = ["high", "low", "middle"]
    assert list(predictions.columns) == ["prediction", *(f"probability_{name}" for name in classes)]
    measured = recorded.result["training"]["metrics"]["test"]
    assert (predictions["prediction"] == rows["label"]).mean() == pytest.approx(measured["accuracy"])
    probabilities = predictions.iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert sk.log_loss(rows["label"], probabilities, labels=classes) == pytest.approx(measured["log_loss"], abs=1e-4)


def test_regression_predictions_give_the_metrics_of_the_result(
    models: dict[str, tuple[RecordedRun, Any]], made: Callable[..., Made]
) -> None:
    recorded, model = models["regression"]
    rows = _test_rows(made, "regression")
    predictions = model.predict(rows.drop(columns="label"))["prediction"]
    measured = recorded.result["training"]["metrics"]["test"]
    assert sk.root_mean_squared_error(rows["label"], predictions) == pytest.approx(measured["rmse"], rel=1e-4)
    assert sk.mean_absolute_error(rows["label"], predictions) == pytest.approx(measured["mae"], rel=1e-4)
    assert sk.r2_score(rows["label"], predictions) == pytest.approx(measured["r2"], abs=1e-4)
    assert recorded.artifacts("plots") == {"plots/training_curves.png", "plots/predicted_against_true.png"}


@pytest.mark.parametrize("kind", [*KINDS, "branching"])
def test_missing_values_and_unseen_categories_have_predictions(
    models: dict[str, tuple[RecordedRun, Any]], kind: str
) -> None:
    _, model = models[kind]
    noon = pd.Timestamp("2030-01-01 12:00")
    rows = pd.DataFrame(
        {
            "row": [1.0, 2.0, None],
            "width": [10.0, np.nan, None],
            "height": [-2.0, 1e6, None],
            "colour": ["red", "mauve", None],
            "seen_at": [noon, pd.NaT, None],
        }
    )
    predictions = model.predict(rows)
    assert len(predictions) == 3
    assert not predictions.isna().any().any()
    pd.testing.assert_frame_equal(model.predict(rows.iloc[:1]), predictions.iloc[:1], rtol=1e-5)


def test_the_signature_lists_the_raw_columns_and_matches_the_example(
    models: dict[str, tuple[RecordedRun, Any]],
) -> None:
    _, model = models["binary"]
    signature = model.metadata.signature
    assert [(column.name, str(column.type), column.required) for column in signature.inputs] == [
        (name, "Any", False) for name in ("row", "width", "height", "colour", "seen_at")
    ]
    assert model.metadata.metadata["columns"] == {
        "row": "bigint", "width": "double", "height": "double", "colour": "string", "seen_at": "timestamp",
    }  # fmt: skip
    assert signature.outputs.input_names() == ["prediction", "probability"]
    example = model.input_example
    assert list(example.columns) == ["row", "width", "height", "colour", "seen_at"]
    assert len(model.predict(example)) == 1


def test_a_network_that_cannot_be_exported_is_logged_with_its_code_and_a_warning(
    models: dict[str, tuple[RecordedRun, Any]],
) -> None:
    def warnings(recorded: RecordedRun) -> list[str]:
        messages = recorded.messages
        texts = [message["text"] for message in messages if message.get("level") == "warning"]
        return [text for text in texts if not text.startswith("over-fitting: ")]

    (warning,) = warnings(models["branching"][0])
    assert warning.startswith("the network cannot be exported, so the model is logged with its code (")
    assert warnings(models["binary"][0]) == []


def test_only_a_registered_model_has_a_version(models: dict[str, tuple[RecordedRun, Any]]) -> None:
    assert models["binary"][0].result["model"]["uri"] == "models:/binary/1"
    assert models["regression"][0].result["model"]["uri"].startswith("models:/m-")


def test_requirements_are_not_compared_with_what_they_are_copied_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow lists the modules of all installed packages for that, which takes a second at the end of each job."""
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    listed: list[str] = []

    def list_all() -> dict[str, list[str]]:
        listed.append("all")
        return {}

    monkeypatch.setattr("mlflow.utils.requirements_utils.importlib_metadata.packages_distributions", list_all)
    with _requirements_not_compared():
        requirements_utils.warn_dependency_requirement_mismatches(["mlflow==1.0", "torch==1.0"])
    assert not listed
    assert requirements_utils._MODULES_TO_PACKAGES is None  # elsewhere, MLflow works as ever


def test_the_bundle_of_a_model_describes_its_training(models: dict[str, tuple[RecordedRun, Any]]) -> None:
    recorded, _ = models["binary"]
    folder = Path(mlflow.artifacts.download_artifacts(recorded.result["model"]["uri"]))
    bundle = open_bundle(next(folder.glob("artifacts/*/manifest.json")).parent)
    measured = recorded.result["training"]["metrics"]["test"]
    assert bundle.read_json("metrics.json")["test"]["accuracy"]["value"] == pytest.approx(measured["accuracy"])
    lineage = bundle.read_json("lineage.json")
    assert lineage["mlflow_run_id"] == recorded.run.info.run_id
    assert lineage["dataset"]["digest"] == recorded.result["dataset"]["digest"]
    assert sum(bundle.read_json("statistics.json")["predictions"]["prediction"]["shares"]) == pytest.approx(1, abs=1e-5)
    assert "| accuracy |" in (bundle.path / "card.md").read_text()
