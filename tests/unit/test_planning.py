"""Plans of jobs, without starting anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.pipeline import check_trainable, is_stale
from farandole.planning import plan
from farandole.shards import read_manifest
from farandole.spec import Job

MakeJob = Callable[..., Job]


def test_valid_job_has_no_problems_and_four_steps(make_job: MakeJob) -> None:
    document = plan(make_job()).to_dict()
    assert set(document) == {"problems", "steps", "objects"}
    assert document["problems"] == document["objects"] == []
    prepare, train, evaluate, register = document["steps"]
    assert (prepare["stage"], prepare["action"]) == ("prepare", "reuse")
    assert prepare["rows"] == {"train": 962, "validation": 150, "test": 150}
    assert (train["workers"], train["threads"], train["steps"]) == (2, 1, 32)
    assert "2 epochs with 64 rows per step on 2 workers with 1 thread each" in train["text"]
    assert evaluate["metrics"] == ["roc_auc", "average_precision", "accuracy", "log_loss"]
    assert register["text"].startswith("add a version to the registered model small in sqlite:///")


def test_single_worker_has_no_others_to_be_compared_with(make_job: MakeJob) -> None:
    step = plan(make_job(resources__workers=1, resources__cpus=1)).steps[1]
    assert "rows per step on 1 worker with 1 thread" in step.text
    assert "each" not in step.text


def test_job_without_a_model_is_prepared_and_not_trained(make_job: MakeJob) -> None:
    job = make_job(model=None)
    document = plan(job).to_dict()
    assert document["problems"] == []
    (step,) = document["steps"]
    assert step["text"].endswith("; the job has no `model`, so nothing is trained")
    with pytest.raises(SpecError, match="model: is missing"):
        check_trainable(job)


def test_hosts_need_shared_checkpoints_and_a_shared_store(make_job: MakeJob) -> None:
    job = make_job(resources__hosts=["node1.invalid:2", "localhost:1"])
    checkpoints, store = plan(job).to_dict()["problems"]
    assert checkpoints.startswith("train.checkpoint.directory: not set, so checkpoints would be written to one of the")
    assert "(node1.invalid)" in checkpoints
    assert store.startswith("tracking.uri: sqlite:///")
    with pytest.raises(SpecError, match=r"train\.checkpoint\.directory"):
        check_trainable(job)
    assert plan(make_job(resources__hosts=["localhost:2"])).to_dict()["problems"] == []


def test_space_of_a_sweep_is_listed(make_job: MakeJob) -> None:
    space = {
        "train.optimizer.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "train.seed": {"choices": [1, 2]},
    }
    document = plan(make_job(sweep={"space": space, "trials": 7, "parallel": 2, "metric": "log_loss"})).to_dict()
    assert document["problems"] == []
    step = document["steps"][4]
    assert (step["stage"], step["trials"], step["metric"]) == ("sweep", 7, "log_loss")
    assert step["text"] == (
        "`farandole sweep` trains 7 times (tpe, 2 at once) to minimize log_loss on validation over"
        " train.optimizer.learning_rate: 0.001 to 0.1 (log); train.seed: 1 | 2"
    )


def test_model_without_a_label_is_a_problem(make_job: MakeJob) -> None:
    document = plan(make_job(data__label=None)).to_dict()
    assert [step["stage"] for step in document["steps"]] == ["prepare"]
    (problem,) = document["problems"]
    assert problem.startswith("data.label: missing")


def test_dropped_tail_is_not_counted_as_a_step(make_job: MakeJob) -> None:
    assert plan(make_job(train__tail="drop")).to_dict()["steps"][1]["steps"] == 30


def test_missing_dataset_will_be_prepared(make_job: MakeJob, tmp_path: Path) -> None:
    document = plan(make_job(data__output=str(tmp_path / "new"))).to_dict()
    assert document["steps"][0]["action"] == "prepare"
    assert "read 1 file (" in document["steps"][0]["text"]
    assert "steps" not in document["steps"][1]
    assert not (tmp_path / "new").exists()


def test_all_problems_are_reported_together(make_job: MakeJob) -> None:
    job = make_job(
        data__sources={"things": {"path": "/nowhere/things.csv"}},
        model={"builder": "netwerk:build", "options": {}},
    )
    problems = plan(job).to_dict()["problems"]
    assert len(problems) == 2
    assert problems[0].startswith("data.sources.things.path: ")
    assert problems[1].startswith("model.builder: netwerk:build: there is no module netwerk; put netwerk.py beside")


def test_feature_that_the_files_lack_is_a_problem(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("size,late\n1,0\n")
    source = {"path": str(tmp_path / "rows.csv")}
    job = make_job(
        data__sources={"rows": source},
        data__query=None,
        data__features={"sise": {"kind": "numeric"}},
        data__label={"column": "late", "kind": "binary"},
    )
    problems = plan(job).to_dict()["problems"]
    assert problems == ["data.features.sise: the files of the source have no column sise; did you mean size?"]


def test_password_of_the_store_is_hidden(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:s3cret@db/mlflow")
    assert plan(make_job()).to_dict()["steps"][3]["text"].endswith("small in postgresql://db/mlflow, experiment small")


def test_more_threads_than_cores_are_reported(make_job: MakeJob) -> None:
    assert "slower than fewer" in plan(make_job(resources={"workers": 2, "cpus": 1000})).to_dict()["steps"][1]["text"]


def test_dataset_without_the_required_policies_is_prepared_again(make_job: MakeJob) -> None:
    job = make_job(data__privacy={"columns": {"colour": {"policy": "mask"}}})
    step = plan(job).to_dict()["steps"][0]
    demand = "data.privacy.columns.colour: the job requires mask (keep_last 0), the dataset has no policy"
    assert step["action"] == "prepare"
    assert step["lacking"] == [demand]
    assert step["text"].endswith(f"training refuses the dataset that is there now ({demand})")


def test_dataset_without_the_required_encryption_is_reported(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "5f" * 32)
    step = plan(make_job(data__shards={"encryption": {"key": {"environment": "THE_KEY"}}})).to_dict()["steps"][0]
    assert step["lacking"] == [
        "data.shards.encryption: the job requires encrypted shards, and those of the dataset are not"
    ]


def test_missing_key_is_a_problem(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    columns = {"colour": {"policy": "pseudonymise"}}
    job = make_job(data__privacy={"columns": columns, "key": {"environment": "THE_KEY"}})
    (problem,) = plan(job).to_dict()["problems"]
    assert problem.startswith("data.privacy.key.environment: THE_KEY: the variable is not set")
    manifest = read_manifest(job.data.output)
    assert not is_stale(job, manifest)  # a machine that only trains does not need the key
