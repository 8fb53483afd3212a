from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.errors import ModelError, SpecError
from farandole.planning import check_builder, check_trainable, plan, stale_dataset
from farandole.spec import Job
from tests.support.made_data import empty_store, home, made, make_job, write_job

__all__ = ["empty_store", "home", "made", "make_job", "write_job"]

MakeJob = Callable[..., Job]


def test_a_sound_job_has_no_problems_and_four_steps(home: Path, make_job: MakeJob) -> None:
    document = plan(make_job())
    assert set(document) == {"problems", "steps", "objects"}
    assert document["problems"] == document["objects"] == []
    prepare, train, evaluate, register = document["steps"]
    assert (prepare["stage"], prepare["action"]) == ("prepare", "reuse")
    assert prepare["rows"] == {"train": 962, "validation": 150, "test": 150}
    assert (train["workers"], train["threads"], train["steps"]) == (2, 1, 32)
    assert "2 epochs of 64 rows a step on 2 workers" in train["text"]
    assert evaluate["metrics"] == ["roc_auc", "average_precision", "accuracy", "log_loss"]
    assert register["text"].startswith("add a version to the registered model small in sqlite:///")


def test_a_job_without_a_model_prepares_and_trains_nothing(home: Path, make_job: MakeJob) -> None:
    job = make_job(model=None)
    document = plan(job)
    assert document["problems"] == []
    (step,) = document["steps"]
    assert step["text"].endswith("; the job has no `model`, so nothing is trained")
    with pytest.raises(SpecError, match="model: is missing"):
        check_trainable(job)


def test_hosts_need_checkpoints_and_a_store_that_they_share(home: Path, make_job: MakeJob) -> None:
    job = make_job(resources__hosts=["node1.invalid:2", "localhost:1"])
    checkpoints, store = plan(job)["problems"]
    assert checkpoints.startswith(
        "train.checkpoint.directory: there is none, so checkpoints would lie on one of the hosts"
    )
    assert "(node1.invalid)" in checkpoints
    assert store.startswith("tracking.uri: sqlite:///")
    with pytest.raises(SpecError, match=r"train\.checkpoint\.directory"):
        check_trainable(job)
    assert plan(make_job(resources__hosts=["localhost:2"]))["problems"] == []


def test_the_space_of_a_sweep_is_shown(home: Path, make_job: MakeJob) -> None:
    space = {
        "train.optimizer.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "train.seed": {"choices": [1, 2]},
    }
    document = plan(make_job(sweep={"space": space, "trials": 7, "parallel": 2, "metric": "log_loss"}))
    assert document["problems"] == []
    step = document["steps"][4]
    assert (step["stage"], step["trials"], step["metric"]) == ("sweep", 7, "log_loss")
    assert step["text"] == (
        "`farandole sweep` trains 7 times (tpe, 2 at once) to minimize log_loss on validation over"
        " train.optimizer.learning_rate: 0.001 to 0.1 (log); train.seed: 1 | 2"
    )


def test_a_model_without_a_label_is_a_problem(home: Path, make_job: MakeJob) -> None:
    document = plan(make_job(data__label=None))
    assert [step["stage"] for step in document["steps"]] == ["prepare"]
    (problem,) = document["problems"]
    assert problem.startswith("data.label: there is none")


def test_a_dropped_tail_is_not_counted(home: Path, make_job: MakeJob) -> None:
    assert plan(make_job(train__tail="drop"))["steps"][1]["steps"] == 30


def test_a_dataset_that_is_not_there_will_be_prepared(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    document = plan(make_job(data__output=str(tmp_path / "new")))
    assert document["steps"][0]["action"] == "prepare"
    assert "read 1 file (" in document["steps"][0]["text"]
    assert "steps" not in document["steps"][1]
    assert not (tmp_path / "new").exists()


def test_all_problems_are_told_together(home: Path, make_job: MakeJob) -> None:
    job = make_job(
        data__sources={"things": {"path": "/nowhere/things.csv"}},
        model={"builder": "netwerk:build", "options": {}},
    )
    problems = plan(job)["problems"]
    assert len(problems) == 2
    assert problems[0].startswith("data.sources.things.path: ")
    assert problems[1].startswith("model.builder: netwerk:build: there is no module netwerk; put netwerk.py beside")


def test_a_password_of_the_store_is_not_shown(home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:s3cret@db/mlflow")
    assert plan(make_job())["steps"][3]["text"].endswith("small in postgresql://db/mlflow, experiment farandole")


def test_more_threads_than_cores_are_pointed_out(home: Path, make_job: MakeJob) -> None:
    assert "slower than fewer" in plan(make_job(resources={"workers": 2, "cpus": 1000}))["steps"][1]["text"]


@pytest.mark.parametrize(
    ("builder", "text"),
    [
        (
            "nowhere:build",
            "model.builder: nowhere:build: there is no module nowhere; put nowhere.py beside the job file",
        ),
        ("farandole.models.mpl:build", "there is no module farandole.models.mpl; use one of farandole.models$"),
        ("network:biuld", r"network.py has no function biuld; did you mean build\?"),
        ("broken:build", "broken.py, line 2: '\\(' was never closed"),
        ("empty:build", "empty.py has no function build; it has no functions"),
    ],
)
def test_a_builder_that_is_not_there_is_told_without_importing_anything(
    home: Path, make_job: MakeJob, builder: str, text: str
) -> None:
    job = make_job(model={"builder": builder, "options": {}})
    Path(job.folder or "", "broken.py").write_text("raise SystemExit\nx = (\n")
    Path(job.folder or "", "empty.py").write_text("")
    with pytest.raises(ModelError, match=text):
        check_builder(job)


@pytest.mark.parametrize(
    "source",
    [
        "from torch.nn import Linear as build",
        "build = print",
        "class build: pass",
        "from torch.nn import *",
        "build: object = print",
        "try:\n    import nowhere\nexcept ImportError:\n    def build(): ...",
    ],
)
def test_a_builder_may_be_anything_with_the_name(home: Path, make_job: MakeJob, source: str) -> None:
    job = make_job(model={"builder": "own.networks:build", "options": {}})
    package = Path(job.folder or "", "own")
    package.mkdir()
    (package / "networks.py").write_text(source)
    check_builder(job)
    assert plan(job)["problems"] == []


def test_a_dataset_of_other_features_is_stale(home: Path, make_job: MakeJob) -> None:
    assert not stale_dataset(make_job())
    assert stale_dataset(make_job(data__features={"width": {"kind": "numeric"}}))
    assert not stale_dataset(make_job(data__sources={"things": {"path": "/nowhere.csv"}}))


def test_a_dataset_without_the_policies_of_the_job_is_prepared_again_and_would_be_refused(
    home: Path, make_job: MakeJob
) -> None:
    job = make_job(data__privacy={"columns": {"colour": {"policy": "mask"}}})
    step = plan(job)["steps"][0]
    demand = "data.privacy.columns.colour: the job requires mask (keep_last 0), the dataset has no policy"
    assert step["action"] == "prepare"
    assert step["lacking"] == [demand]
    assert step["text"].endswith(f"training refuses the one that lies there ({demand})")


def test_a_dataset_that_is_not_encrypted_as_the_job_demands_would_be_refused(
    home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "5f" * 32)
    step = plan(make_job(data__shards={"encryption": {"key": {"environment": "THE_KEY"}}}))["steps"][0]
    assert step["lacking"] == ["data.shards.encryption: the job demands encrypted shards, those of the dataset are not"]


def test_a_key_that_is_not_there_is_a_problem(home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    columns = {"colour": {"policy": "pseudonymise"}}
    job = make_job(data__privacy={"columns": columns, "key": {"environment": "THE_KEY"}})
    (problem,) = plan(job)["problems"]
    assert problem.startswith("data.privacy.key.environment: THE_KEY: the variable is not set")
    assert not stale_dataset(job)  # which a machine that only trains cannot tell
