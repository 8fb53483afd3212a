"""Eight-bit forms of a model that was trained in this process and registered in a real store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from farandole.bundle import open_bundle
from farandole.cli.main import app
from farandole.errors import DatasetError
from farandole.serving import registry
from farandole.serving.compression import compress_model
from farandole.serving.compression.int8 import FILE
from farandole.serving.compression.measure import read_rows
from farandole.shards import Dataset
from farandole.spec import Job
from tests.support.made_data import Made
from tests.support.recorded_run import RecordedRun, train_in_process

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def trained(module_home: Path, make_module_job: MakeJob) -> RecordedRun:
    with pytest.MonkeyPatch.context() as patch:
        return train_in_process(make_module_job(train__epochs=3, train__baseline="trivial"), module_home, patch)


@pytest.fixture
def home(trained: RecordedRun, farandole_home: Path) -> Path:
    farandole_home.mkdir()
    shutil.copy(trained.home / "mlflow.db", farandole_home / "mlflow.db")
    return farandole_home


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_int8_form_predicts_what_the_network_predicts(
    trained: RecordedRun, home: Path, tmp_path: Path, method: str
) -> None:
    found = compress_model("models:/small/1", int8=method, output=tmp_path / "small")
    assert (found.accepted, found.metric, found.registered) == (True, "roc_auc", None)
    assert found.before.metric == pytest.approx(trained.result["training"]["metrics"]["test"]["roc_auc"], abs=1e-4)
    assert found.after.metric == pytest.approx(found.before.metric, abs=0.01)
    bundle = open_bundle(tmp_path / "small")
    assert bundle.forms[-1] == "int8"
    assert found.after.bytes == (bundle.path / FILE).stat().st_size
    batches = read_rows(Dataset(trained.job.data.output), "test")
    small, exact = bundle.predictor("int8"), bundle.predictor()
    differences = [np.abs(small.outputs(features) - exact.outputs(features)).max() for features, _ in batches]
    assert 0 < max(differences) <= bundle.model["forms"]["int8"]["tolerance"] * 1.0001
    assert max(differences) < 0.5


def test_compressed_version_is_registered_with_its_origin_and_its_metric(trained: RecordedRun, home: Path) -> None:
    done = CliRunner().invoke(
        app, ["models", "compress", "models:/small/1", "--int8", "dynamic", "--register", "--json"]
    )
    document = json.loads(done.stdout)
    (found,) = document["results"]
    assert (done.exit_code, found["registered"]) == (0, "models:/small/2")
    assert document["before"] == found["before"]
    assert 0 < found["after"]["archive_bytes"] < found["after"]["bytes"]
    (version,) = registry.show_model("small/2")
    assert version.metrics == {"roc_auc": found["after"]["metric"]}
    assert (version.derived_from, version.run_id) == ("models:/small/1", trained.run.info.run_id)
    assert open_bundle(registry.fetch_bundle("models:/small/2")).forms[-1] == "int8"
    assert open_bundle(registry.fetch_bundle("models:/small/1")).forms[-1] != "int8"


def test_form_that_predicts_too_much_worse_is_neither_written_nor_registered(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measure of the new form is made worse here, since quantization hardly changes a network this small."""
    monkeypatch.setattr("farandole.serving.compression.compress.relative_drop", lambda *_: 0.05)
    output = tmp_path / "small"
    arguments = ["models", "compress", "models:/small/1", "--int8", "dynamic", "--register", "-o", str(output)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "roc_auc is worse by 5.00%, and 1.00% is accepted: nothing was written or" in done.stdout
    assert not output.exists()
    assert len(registry.show_model("small")) == 1


def test_other_dataset_is_refused(home: Path, tmp_path: Path, made: Callable[..., Made]) -> None:
    other = str(made("binary", 1).path)
    with pytest.raises(DatasetError, match="is not the dataset that the model was trained on"):
        compress_model("models:/small/1", int8="dynamic", output=tmp_path / "small", dataset=other)
