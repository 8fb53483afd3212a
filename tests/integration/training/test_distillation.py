"""Students that learn from a registered teacher, trained by this process; and a resumed one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from farandole.bundle import open_bundle
from farandole.errors import BundleError, ModelError, RegistryError
from farandole.jobdir.checkpoints import checkpoint_location
from farandole.launch.trained_models import check_models, stage_models
from farandole.serving import registry
from farandole.shards import Dataset
from farandole.spec import Job
from tests.support.made_data import Made
from tests.support.recorded_run import RecordedRun, train_in_process
from tests.support.trainer_harness import open_harness

MakeJob = Callable[..., Job]
_SMALL = {"builder": "farandole.models.mlp:build", "options": {"hidden": [8]}}
_ENSEMBLE = {
    "builder": "farandole.models.tabular:build",
    "options": {"members": 3, "width": 8, "depth": 1, "intervals": 4},
}


@pytest.fixture(scope="module")
def teacher(module_home: Path, make_module_job: MakeJob) -> RecordedRun:
    """Train and register `small/1`, with a builder of the user's: its bundle has the form `program`."""
    with pytest.MonkeyPatch.context() as patch:
        return train_in_process(make_module_job(train__epochs=4), module_home, patch)


@pytest.fixture
def home(teacher: RecordedRun, farandole_home: Path) -> Path:
    farandole_home.mkdir()
    shutil.copy(teacher.home / "mlflow.db", farandole_home / "mlflow.db")
    return farandole_home


def _student(make_job: MakeJob, model: dict[str, Any], **distill: Any) -> Job:
    return make_job(
        name="student", model=model, train__distill={"teacher": "models:/small/1", **distill}, train__epochs=8
    )


def _staged(job: Job, directory: Path) -> Job:
    directory.mkdir(parents=True, exist_ok=True)
    return stage_models(job, Dataset(job.data.output).manifest, directory)


@pytest.mark.parametrize("model", [_SMALL, _ENSEMBLE], ids=["mlp", "ensemble"])
def test_student_learns_from_its_teacher_alone_where_the_label_has_no_weight(
    teacher: RecordedRun, home: Path, make_job: MakeJob, tmp_path: Path, model: dict[str, Any]
) -> None:
    job = _staged(_student(make_job, model, weight=1.0), tmp_path / "job")
    with open_harness(tmp_path / "job") as harness:
        trainer = harness.fit(job)
        taught, learned = trainer.evaluate_teacher("test"), trainer.evaluate("test")
    assert taught is not None
    assert learned is not None
    measured = teacher.result["training"]["metrics"]["test"]["roc_auc"]
    assert taught.metrics["roc_auc"] == pytest.approx(measured, abs=1e-6)
    outputs = torch.cat([taught.outputs, learned.outputs], dim=1).sigmoid()
    assert float(torch.corrcoef(outputs.T)[0, 1]) > 0.9
    losses = [loss for _, loss in harness.logged["train.loss"]]
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


def test_resumed_student_has_the_same_weights_and_keeps_its_teacher(
    home: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    whole = _staged(_student(make_job, _ENSEMBLE), tmp_path / "whole")
    with open_harness(tmp_path / "whole") as harness:
        expected = harness.fit(whole).model.state_dict()
    unpinned = _student(make_job, _ENSEMBLE)
    begun = _staged(unpinned, tmp_path / "resumed")
    one = begun.model_copy(update={"train": begun.train.model_copy(update={"epochs": 1})})
    with open_harness(tmp_path / "resumed") as harness:
        harness.fit(one)
    (home / "mlflow.db").unlink()  # what the name stands for now is not asked
    again = _staged(unpinned, tmp_path / "resumed")
    assert again.train.distill == begun.train.distill
    with open_harness(tmp_path / "resumed") as harness:
        resumed = harness.fit(again).model.state_dict()
    assert any("resuming after epoch 1" in text for text in harness.messages())
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_run_and_trace_name_the_teacher(teacher: RecordedRun, home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    job = _student(make_job, _SMALL, temperature=3.0)
    directory = home / "jobs" / "student-0"
    staged = _staged(job, directory)
    assert staged.train.distill is not None
    digest = staged.train.distill.digest
    with pytest.MonkeyPatch.context() as patch:
        run = train_in_process(staged, home, patch, directory=directory)
    params = run.run.data.params
    assert (params["train.distill.teacher"], params["train.distill.digest"]) == ("models:/small/1", digest)
    evaluation = run.result["training"]["evaluation"]
    measured = teacher.result["training"]["metrics"]["test"]["roc_auc"]
    assert evaluation["baselines"]["teacher"]["roc_auc"] == pytest.approx(measured, abs=1e-6)
    step = registry.trace_model("models:/student/1").find("teacher")
    assert step is not None
    assert (step.name, step.facts["digest"], step.facts["temperature"]) == ("models:/small/1", digest, 3.0)
    lineage = open_bundle(registry.fetch_bundle("models:/student/1")).read_json("lineage.json")
    assert lineage["job"]["train"]["distill"]["digest"] == digest


def test_moved_alias_does_not_change_a_training_that_began(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    client.set_registered_model_alias("small", "teacher", "1")
    job = make_job(train__distill={"teacher": "models:/small@teacher"}, model=_SMALL)
    first = _staged(job, tmp_path / "job")
    client.delete_registered_model_alias("small", "teacher")
    assert _staged(job, tmp_path / "job") == first
    with pytest.raises(RegistryError, match=r"train\.distill\.teacher: models:/small@teacher: small has no alias"):
        check_models(job)
    record = json.loads(Path(checkpoint_location(job, tmp_path / "job"), "models", "distill.json").read_text())
    assert record["model"] == "models:/small@teacher"


def test_teacher_of_another_label_or_dataset_is_refused_before_a_worker_starts(
    home: Path, make_job: MakeJob, made: Callable[..., Made], tmp_path: Path
) -> None:
    other = make_job("regression", model=_SMALL, train__distill={"teacher": "models:/small/1"})
    with pytest.raises(ModelError, match=r"predicts label \(binary\), and the job's label is label \(regression\)"):
        check_models(other)
    fitted = make_job("binary", 1, model=_SMALL, train__distill={"teacher": "models:/small/1"})
    check_models(fitted)  # the declarations are the same
    with pytest.raises(ModelError, match=r"its feature \w+ has another \w+ .*; train the model on this dataset"):
        _staged(fitted, tmp_path / "job")
    pinned = _student(make_job, _SMALL, digest=f"sha256:{'0' * 64}")
    with pytest.raises(ModelError, match=r"train\.distill\.digest: sha256:0+, and models:/small/1 is sha256:"):
        _staged(pinned, tmp_path / "pinned")


def test_workers_without_the_copy_say_which_directory_lacks_it(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    staged = _staged(_student(make_job, _SMALL), tmp_path / "job")
    with open_harness(tmp_path / "elsewhere") as harness, pytest.raises(BundleError, match="all workers need the dir"):
        harness.trainer(staged)
