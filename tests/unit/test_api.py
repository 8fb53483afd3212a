from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import farandole
from farandole import api
from farandole.errors import ModelError, SpecError
from farandole.events import Event, Message
from farandole.launch import TrainedModel
from farandole.spec import Job
from tests.support.made_data import empty_store, home, made, make_job, write_job

__all__ = ["empty_store", "home", "made", "make_job", "write_job"]

MakeJob = Callable[..., Job]


def test_every_public_name_is_there_and_they_are_sorted() -> None:
    assert farandole.__all__ == sorted(farandole.__all__, key=str)
    assert dir(farandole) == farandole.__all__
    for name in set(farandole.__all__) - {"plan"}:
        assert getattr(farandole, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = farandole.trian


def test_plan_stays_a_function() -> None:
    assert callable(farandole.plan)


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, farandole; print(sorted(name for name in sys.modules if name.startswith('farandole.')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize("stage", [api.prepare, api.train, api.run])
def test_no_stage_starts_with_a_builder_that_is_not_there(
    home: Path, make_job: MakeJob, stage: Callable[[Job], object]
) -> None:
    with pytest.raises(ModelError, match="there is no module nowhere"):
        stage(make_job(model={"builder": "nowhere:build", "options": {}}))
    assert not (home / "jobs").exists()


def test_a_dataset_that_lies_ready_is_reused_without_spark(home: Path, make_job: MakeJob) -> None:
    told: list[Event] = []
    prepared = api.prepare(make_job(), told.append)
    assert prepared.reused
    assert "pyspark.sql.session" not in sys.modules or prepared.to_dict()["reused"] is True


def test_the_result_document_has_the_keys_of_the_contract(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    dataset = {**api.prepare(job).to_dict(), "reused": True}
    trained = TrainedModel("small-1", tmp_path, dataset, {"steps": 3}, "models:/small/1")
    document = api.train_document(job, trained)
    assert document == {
        "job": "small",
        "id": "small-1",
        "directory": str(tmp_path),
        "dataset": dataset,
        "training": {"steps": 3},
        "model": {"uri": "models:/small/1"},
    }
    assert api.RunResult(job, api.prepare(job), trained).to_dict() == document


def test_training_on_a_stale_dataset_warns(
    home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained = TrainedModel("small-1", tmp_path, {}, {}, "models:/small/1")
    monkeypatch.setattr("farandole.launch.train", lambda *_, **__: trained)
    told: list[Event] = []
    assert api.train(make_job(), told.append) is trained
    assert told == []
    api.train(make_job(data__features={"width": {"kind": "numeric"}}), told.append)
    (note,) = told
    assert isinstance(note, Message)
    assert note.level == "warning"
    assert note.text.endswith("was made of other sources, features or code; `farandole prepare` renews it")


def test_a_job_is_submitted_and_found_again_by_its_id_alone(home: Path, make_job: MakeJob) -> None:
    job = make_job(backend={"use": "local", "priority": 3})
    submitted = api.submit(job)
    lines = api.logs(submitted.id, follow=True)
    next(lines)  # it runs
    status = api.cancel(submitted.id)
    assert (status.state, status.name, status.priority) == ("cancelled", "small", 3)
    assert api.status(submitted.id) == status
    assert [found.id for found in api.jobs()] == [found.id for found in api.jobs(backend="local")] == [submitted.id]
    assert list(lines)[-1].endswith("cancelled: cancelled while it ran")
    assert api.retry(submitted.id).id == submitted.id
    assert api.cancel(submitted.id, backend="local").state == "cancelled"


def test_a_job_is_not_taken_that_cannot_run(home: Path, make_job: MakeJob) -> None:
    with pytest.raises(ModelError, match="there is no module nowhere"):
        api.submit(make_job(model={"builder": "nowhere:build", "options": {}}))
    with pytest.raises(SpecError, match=r"--backend: lokal: there is no such backend; did you mean local\?"):
        api.jobs(backend="lokal")
