"""Pruned and distilled models: by the ordinary trainer with its workers, against a real store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farandole.bundle import open_bundle
from farandole.bundle.pruning import zero_share
from farandole.cli.main import app
from farandole.errors import BundleError
from farandole.launch.trained_models import stage_models
from farandole.serving import registry
from farandole.serving.compression import compress_model
from farandole.shards import Dataset
from farandole.spec import Job
from tests.support.recorded_run import RecordedRun, train_in_process
from tests.support.trainer_harness import open_harness

MakeJob = Callable[..., Job]
_MODEL = {"builder": "farandole.models.mlp:build", "options": {"hidden": [32, 16]}}


@pytest.fixture(scope="module")
def trained(module_home: Path, make_module_job: MakeJob) -> RecordedRun:
    with pytest.MonkeyPatch.context() as patch:
        return train_in_process(make_module_job(model=_MODEL, train__epochs=4), module_home, patch)


@pytest.fixture
def home(trained: RecordedRun, farandole_home: Path) -> Path:
    farandole_home.mkdir()
    shutil.copy(trained.home / "mlflow.db", farandole_home / "mlflow.db")
    return farandole_home


def test_pruned_model_is_trained_and_registered_with_its_origin(trained: RecordedRun, home: Path) -> None:
    found = compress_model("models:/small/1", prune=0.8, epochs=2, register=True, max_drop=0.05)
    assert (found.method, found.accepted, found.registered) == ("pruned 0.8", True, "models:/small/2")
    assert found.after.bytes == pytest.approx(found.before.bytes, rel=0.01)  # zeros take room
    assert found.after.archive_bytes < 0.6 * found.before.archive_bytes
    bundle = open_bundle(registry.fetch_bundle("models:/small/2"))
    assert zero_share(bundle.network()) == pytest.approx(0.8, abs=0.01)
    (version,) = registry.show_model("small/2")
    assert version.derived_from == "models:/small/1"
    assert version.run_id not in (None, trained.run.info.run_id)
    assert version.metrics == {"roc_auc": found.after.metric}
    parent = open_bundle(registry.fetch_bundle("models:/small/1"))
    trace = registry.trace_model("models:/small/2")
    step = trace.find("pruned model")
    assert step is not None
    assert (step.name, step.facts["digest"], step.facts["share"]) == ("models:/small/1", parent.digest, 0.8)
    assert trace.facts["made_from"] == "models:/small/1"


def test_pruning_without_training_that_predicts_worse_is_refused(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "small"
    arguments = ["models", "compress", "models:/small/1", "--prune", "0.98", "--epochs", "0", "--register", "--json"]
    done = CliRunner().invoke(app, [*arguments, "-o", str(output)])
    assert done.exit_code == 2
    (found,) = json.loads(done.stdout)["results"]
    assert found["drop"] > found["max_drop"] == 0.01
    assert (found["accepted"], found["registered"], found["output"]) == (False, None, None)
    assert not output.exists()
    assert len(registry.show_model("small")) == 1


def test_pruning_without_training_writes_a_bundle_with_its_own_metrics(home: Path, tmp_path: Path) -> None:
    found = compress_model("models:/small/1", prune=0.2, epochs=0, output=tmp_path / "small", max_drop=0.5)
    bundle = open_bundle(tmp_path / "small")
    assert zero_share(bundle.network()) == pytest.approx(0.2, abs=0.01)
    assert bundle.read_json("metrics.json")["test"]["roc_auc"]["value"] == pytest.approx(found.after.metric)
    parent = open_bundle(registry.fetch_bundle("models:/small/1"))
    assert bundle.read_json("lineage.json")["pruned_from"] == {"digest": parent.digest, "share": 0.2}


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "sharded"])
def test_resumed_pruning_has_the_same_weights(home: Path, make_job: MakeJob, tmp_path: Path, shard: bool) -> None:
    def staged(name: str, epochs: int) -> Job:
        prune = {"model": "models:/small/1", "share": 0.7}
        job = make_job(model=_MODEL, train__epochs=epochs, train__prune=prune, train__shard_optimizer=shard)
        (tmp_path / name).mkdir(exist_ok=True)
        return stage_models(job, Dataset(job.data.output).manifest, tmp_path / name)

    with open_harness(tmp_path / "whole") as harness:
        whole = harness.fit(staged("whole", 2))
    with open_harness(tmp_path / "resumed") as harness:
        harness.fit(staged("resumed", 1))
        resumed = harness.fit(staged("resumed", 2))
    assert any("resuming after epoch 1" in text for text in harness.messages())
    assert zero_share(whole.model) == pytest.approx(0.7, abs=0.01)
    for name, tensor in whole.model.state_dict().items():
        assert (resumed.model.state_dict()[name] == tensor).all(), name


def test_all_ways_make_one_table(trained: RecordedRun, home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    small = {**_MODEL, "options": {"hidden": [8]}}
    job = make_job(name="student", model=small, train__distill={"teacher": "models:/small/1"}, train__epochs=4)
    directory = home / "jobs" / "student-0"
    directory.mkdir(parents=True)
    staged = stage_models(job, Dataset(job.data.output).manifest, directory)
    with pytest.MonkeyPatch.context() as patch:
        train_in_process(staged, home, patch, directory=directory)
    ways = [
        "--int8",
        "static",
        "--int8",
        "dynamic",
        "--prune",
        "0.2",
        "--epochs",
        "0",
        "--student",
        "models:/student/1",
    ]
    done = CliRunner().invoke(app, ["models", "compress", "models:/small/1", *ways, "--dry-run", "--max-drop", "0.9"])
    assert done.exit_code == 0, done.output
    shown = [line.split("  ")[0].strip() for line in done.stdout.splitlines()]
    for name in ("eager", "int8 static", "int8 dynamic", "pruned 0.2", "distilled"):
        assert name in shown
    assert "distilled: nothing was written (--dry-run)" in done.stdout
    assert len(registry.show_model("small")) == 1
    with pytest.raises(BundleError, match=r"--student models:/small/1: its teacher is none, and models:/student/1 is"):
        compress_model("models:/student/1", student="models:/small/1", measure_only=True)
