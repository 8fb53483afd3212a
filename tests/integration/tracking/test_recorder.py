"""The content of an MLflow run after a real training by a Horovod gang of one in this process."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from farandole.errors import UnavailableError
from farandole.events import format_metric
from farandole.spec import Job
from farandole.tracking.recorder import close_run, record_run
from tests.support.made_data import Made
from tests.support.recorded_run import RecordedRun, train_in_process

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def recorded(module_home: Path, make_module_job: MakeJob) -> RecordedRun:
    job = make_module_job(tracking={"system_metrics": True, "experiment": "things"})
    folder = str(job.folder)
    git = ["git", "-C", folder, "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    with Path(folder, "network.py").open("a") as file:
        file.write("# a change\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
        return train_in_process(job, module_home, patch)


def test_the_experiment_has_one_finished_run(recorded: RecordedRun) -> None:
    experiment = recorded.client.get_experiment_by_name("things")
    (run,) = recorded.client.search_runs([experiment.experiment_id])
    assert run.info.run_id == recorded.result["training"]["mlflow_run_id"]
    assert run.info.status == "FINISHED"
    assert experiment.artifact_location == (recorded.home / "artifacts").as_uri()


def test_params_are_the_fields_that_differ_from_defaults(recorded: RecordedRun) -> None:
    params = recorded.run.data.params
    assert params["train.epochs"] == "2"
    assert params["train.optimizer.learning_rate"] == "0.02"
    assert "colour (categorical)" in params["data.features"]
    assert params["model.builder"] == "network:build"
    assert {name.partition(".")[0] for name in params} == {"data", "model", "train", "resources"}
    assert recorded.artifacts("job") == {"job/job.yaml", "job/all_fields.json"}
    text = Path(recorded.client.download_artifacts(recorded.run.info.run_id, "job/all_fields.json")).read_text()
    assert json.loads(text)["backend"]["kubernetes"]["style"]


def test_the_run_is_described_for_people(recorded: RecordedRun) -> None:
    run = recorded.run
    assert re.fullmatch(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d", run.info.run_name)
    assert run.data.tags["farandole.job"].startswith("small-")
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**roc_auc ")
    assert f"- dataset: `{recorded.job.data.output}` (" in note
    assert "): 962 train, 150 validation, 150 test\n" in note
    metrics = recorded.result["training"]["metrics"]
    shown = [format_metric(metrics[split]["roc_auc"]) for split in ("test", "validation")]
    assert f"| roc_auc | {shown[0]} | {shown[1]} |" in note


def test_metrics_are_logged_by_step(recorded: RecordedRun) -> None:
    run_id, metrics = recorded.run.info.run_id, recorded.run.data.metrics
    losses = recorded.client.get_metric_history(run_id, "train.loss")
    assert sorted(point.step for point in losses) == list(range(1, 33))
    training = recorded.result["training"]
    points = recorded.client.get_metric_history(run_id, "validation.roc_auc")
    final = [] if training["weights_step"] == 32 else [32]
    # Each epoch, the weights of an earlier one at the end, and the model: at its own step, with the value found there.
    assert sorted(point.step for point in points) == sorted([16, 32, *final, training["weights_step"]])
    at_the_model = [point.value for point in points if point.step == training["weights_step"]]
    assert at_the_model == pytest.approx([training["metrics"]["validation"]["roc_auc"]] * 2)
    for split in ("validation", "test"):
        assert {f"{split}.{name}" for name in recorded.job.metrics} <= set(metrics)
        for name, value in training["metrics"][split].items():
            assert metrics[f"{split}.{name}"] == pytest.approx(value)
    times = {name for name in metrics if name.startswith("time.")}
    assert times == {f"time.{name}" for name in training["time_split"]}
    for number in range(training["workers"]):
        points = recorded.client.get_metric_history(run_id, f"system/rank_{number}/compute_ms")
        assert len(points) == 32
        assert all(point.value > 0 for point in points)
    assert metrics["train.rows_per_s"] > 0
    assert any(name.startswith("system/") for name in metrics)


def test_the_dataset_is_an_input_with_its_digest(recorded: RecordedRun, made: Callable[..., Made]) -> None:
    (given,) = recorded.run.inputs.dataset_inputs
    digest = made().manifest.digest
    assert given.dataset.digest == digest[:8]
    assert recorded.run.data.tags["farandole.dataset_digest"] == digest[:8]
    assert json.loads(given.dataset.profile) == {"rows": made().manifest.row_counts, "num_rows": 962 + 150 + 150}
    columns = json.loads(given.dataset.schema)["mlflow_colspec"]
    assert {column["name"]: column["type"] for column in columns} == {
        "row": "long", "width": "double", "height": "double", "colour": "string", "seen_at": "datetime",
    }  # fmt: skip
    assert recorded.artifacts("dataset") == {"dataset/manifest.json"}


def test_packages_and_uncommitted_changes_are_logged(recorded: RecordedRun) -> None:
    run_id = recorded.run.info.run_id
    assert recorded.artifacts("environment") == {"environment/requirements.txt", "environment/git.diff"}
    commit = subprocess.check_output(["git", "-C", str(recorded.job.folder), "rev-parse", "HEAD"], text=True).strip()
    assert recorded.run.data.tags["mlflow.source.git.commit"] == commit
    folder = Path(recorded.client.download_artifacts(run_id, "environment"))
    assert "+# a change" in (folder / "git.diff").read_text()
    packages = (folder / "requirements.txt").read_text().splitlines()
    assert f"mlflow=={mlflow.__version__}" in packages
    assert packages == sorted(packages)


def test_plots_are_artifacts(recorded: RecordedRun) -> None:
    assert recorded.artifacts("plots") == {
        "plots/training_curves.png", "plots/confusion_matrix.png", "plots/roc.png",
    }  # fmt: skip
    for plot in recorded.artifacts("plots"):
        image = Path(recorded.client.download_artifacts(recorded.run.info.run_id, plot)).read_bytes()
        assert image.startswith(b"\x89PNG")
        assert len(image) > 5000


def test_the_model_is_registered_under_the_job_name(recorded: RecordedRun) -> None:
    assert recorded.result["model"]["uri"] == "models:/small/1"
    version = recorded.client.get_model_version("small", "1")
    assert version.run_id == recorded.run.info.run_id
    assert version.status == "READY"
    model = recorded.client.get_logged_model(recorded.run.outputs.model_outputs[0].model_id)
    (card,) = Path(model.artifact_location.removeprefix("file://")).glob("artifacts/*/card.md")
    assert version.description == card.read_text(encoding="utf-8")
    metrics = recorded.result["training"]["metrics"]["test"]
    assert version.tags["test.roc_auc"] == format_metric(metrics["roc_auc"])
    assert version.tags["dataset"] == recorded.run.data.tags["farandole.dataset_digest"]


def test_the_logged_model_is_linked_to_its_dataset_metrics_and_step(recorded: RecordedRun) -> None:
    (output,) = recorded.run.outputs.model_outputs
    training = recorded.result["training"]
    assert output.step == training["weights_step"] == 16 * training["best_epoch"]
    model = recorded.client.get_logged_model(output.model_id)
    assert model.name == "small"
    (given,) = recorded.run.inputs.dataset_inputs
    assert {(point.dataset_name, point.dataset_digest) for point in model.metrics} == {
        (given.dataset.name, given.dataset.digest)
    }
    found = {point.key: point.value for point in model.metrics}
    for split, metrics in training["metrics"].items():
        for name, value in metrics.items():
            assert found[f"{split}.{name}"] == pytest.approx(value)


def test_the_weights_digest_follows_its_specification(recorded: RecordedRun) -> None:
    import torch

    newest = max(recorded.home.glob("jobs/*/checkpoints/step-*"))
    state = torch.load(newest / "state.pt", weights_only=True)["model"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}\0{state[name].dtype}\0{list(state[name].shape)}\0".encode())
        digest.update(state[name].numpy().tobytes())
    assert recorded.result["training"]["weights_digest"] == digest.hexdigest()
    assert recorded.run.data.tags["farandole.weights_digest"] == digest.hexdigest()[:8]


def test_a_resumed_run_keeps_its_params_and_tags_changed_values(
    recorded: RecordedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(recorded.home))
    changed = recorded.job.model_copy(update={"train": recorded.job.train.model_copy(update={"epochs": 5})})
    (directory,) = recorded.home.glob("jobs/small-*")
    with record_run(changed.tracking, directory) as recorder:
        recorder.log_params(changed)
    assert recorder.run_id == recorded.run.info.run_id
    assert recorded.run.info.status == "FINISHED"
    assert recorded.run.data.params["train.epochs"] == "2"
    assert recorded.run.data.tags["farandole.changed.train.epochs"] == "5"
    assert [name for name in recorded.run.data.tags if "changed" in name] == ["farandole.changed.train.epochs"]


def test_the_spool_is_deleted_once_everything_is_sent(recorded: RecordedRun) -> None:
    (directory,) = recorded.home.glob("jobs/small-*")
    assert [path.name for path in (directory / "tracking").iterdir()] == ["record.json"]


def test_the_run_of_a_failed_training_is_marked_as_failed(home: Path, make_job: MakeJob) -> None:
    def fail() -> str:
        with record_run(make_job().tracking, home / "jobs" / "broken") as recorder:
            assert recorder.run_id is not None
            run_ids.append(recorder.run_id)
            raise RuntimeError("out")

    run_ids: list[str] = []
    with pytest.raises(RuntimeError, match="out"):
        fail()
    run = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").get_run(run_ids[0])
    assert run.info.status == "FAILED"
    assert run.info.run_name == "broken"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nowhere:at-all", "'nowhere:at-all'"),
        ("sqlite:////dev/null/mlflow.db", "/dev/null: is not a folder"),
        ("http://ada:s3cret@no such host", "there is no host no such host"),
        ("postgresql://ada:s3cret@no..host/mlflow", "there is no host no..host"),
    ],
)
def test_an_unusable_store_is_an_error_at_the_start(
    home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, uri: str, reason: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # restored after the test
    directory = home / "jobs" / "nowhere"
    with pytest.raises(UnavailableError) as caught, record_run(make_job().tracking, directory):
        pytest.fail("an unusable store was accepted")
    assert reason in str(caught.value)
    assert str(caught.value).endswith("; correct tracking.uri")
    assert "s3cret" not in str(caught.value)
    assert [path.name for path in (directory / "tracking").iterdir()] == ["record.json"]


def test_an_open_run_is_closed_and_an_ended_run_is_unchanged(home: Path, make_job: MakeJob) -> None:
    tracking = make_job().tracking
    directory = home / "jobs" / "left"
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    close_run(tracking, directory, "KILLED")
    assert not directory.exists(), "nothing was recorded, so there is nothing to close"
    with record_run(tracking, directory) as recorder:
        pass
    assert recorder.run_id is not None
    client.update_run(recorder.run_id, "RUNNING")
    close_run(tracking, directory, "KILLED")
    assert client.get_run(recorder.run_id).info.status == "KILLED"
    close_run(tracking, directory, "FAILED")
    assert client.get_run(recorder.run_id).info.status == "KILLED"
