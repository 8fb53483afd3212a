"""MLflow stores whose path has characters with a meaning in URIs, and stores that reject a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from farandole.errors import SpecError
from farandole.spec import Tracking
from farandole.storage import sqlite_uri
from farandole.tracking.recorder import record_run


@pytest.fixture(scope="module")
def odd_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("odd") / "per%20cent #1? ü+"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARANDOLE_HOME", str(home))
        yield home


@pytest.fixture
def home(odd_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARANDOLE_HOME", str(odd_home))
    return odd_home


def _save_model(directory: Path) -> None:
    mlflow.pyfunc.save_model(str(directory), python_model=lambda model_input: model_input, pip_requirements=[])


def test_a_home_of_any_name_has_a_store(home: Path) -> None:
    with record_run(Tracking(experiment="odd"), home / "jobs" / "100% a#b?c") as recorder:
        recorder.log_metrics({"loss": 0.5}, 1)
        recorder.log_file("plots/a.txt", "text")
        recorder.log_model(_save_model, register_as="odd")
        drained = recorder.drain(30)
    assert drained.unsent == 0
    assert drained.model_uri == "models:/odd/1"
    assert recorder.run_id is not None
    uri = sqlite_uri(home / "mlflow.db")
    client = MlflowClient(uri, registry_uri=uri)
    assert client.get_run(recorder.run_id).data.metrics == {"loss": 0.5}
    assert Path(client.download_artifacts(recorder.run_id, "plots/a.txt")).read_text() == "text"
    (saved,) = home.glob("artifacts/models/*/artifacts/MLmodel")
    assert "python_function" in saved.read_text()
    assert {path.name for path in home.parent.iterdir()} == {home.name}, "MLflow wrote beside the home"


def test_a_deleted_experiment_is_named_with_its_remedy(home: Path) -> None:
    home.mkdir(exist_ok=True)  # tests may run in any order, and MLflow creates a database but not its directory
    client = MlflowClient(sqlite_uri(home / "mlflow.db"))
    number = client.create_experiment("gone")
    client.delete_experiment(number)
    with pytest.raises(SpecError) as caught, record_run(Tracking(experiment="gone"), home / "jobs" / "late"):
        pytest.fail("a deleted experiment was used")
    text = str(caught.value)
    assert text.startswith("tracking.experiment: the experiment gone is deleted in MLflow at sqlite")
    assert f"mlflow experiments restore --experiment-id {number}`, or choose another tracking.experiment" in text
