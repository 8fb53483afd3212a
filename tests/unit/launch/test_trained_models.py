"""Trained models that jobs name by the directory of a bundle; those of MLflow are in the tests of integration."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole import pipeline
from farandole.bundle import BundleContents, open_bundle, write_bundle
from farandole.errors import ModelError, RegistryError
from farandole.launch.trained_models import check_models, stage_models
from farandole.models import mlp
from farandole.planning import plan
from farandole.preprocess import Preprocessing
from farandole.shards import Manifest
from farandole.spec import Job
from tests.support.made_data import Made

MakeJob = Callable[..., Job]
_BUILDER = "farandole.models.mlp:build"


@pytest.fixture
def manifest(made: Callable[..., Made]) -> Manifest:
    return made().manifest


@pytest.fixture
def teacher(manifest: Manifest, tmp_path: Path) -> Path:
    preprocessing = Preprocessing.from_dict(manifest.preprocessing)
    contents = BundleContents("small", _BUILDER, {"hidden": [8]}, preprocessing)
    write_bundle(tmp_path / "teacher", mlp.build(preprocessing.schema, hidden=[8]), contents)
    return tmp_path / "teacher"


def _job(make_job: MakeJob, teacher: Path) -> Job:
    return make_job(model={"builder": _BUILDER, "options": {"hidden": [4]}}, train__distill={"teacher": str(teacher)})


def test_digest_becomes_part_of_the_job_and_the_copy_outlives_its_origin(
    make_job: MakeJob, manifest: Manifest, teacher: Path, tmp_path: Path
) -> None:
    job, digest = _job(make_job, teacher), open_bundle(teacher).digest
    check_models(job)
    staged = stage_models(job, manifest, tmp_path / "job")
    assert staged.train.distill is not None
    assert staged.train.distill.digest == digest
    shutil.rmtree(teacher)
    assert stage_models(job, manifest, tmp_path / "job") == staged
    assert stage_models(staged, manifest, tmp_path / "job") == staged
    check_models(staged)
    for wrong in (check_models, lambda job: stage_models(job, manifest, tmp_path / "other")):
        with pytest.raises(RegistryError, match=r"train\.distill\.teacher: .*teacher: there is no such directory"):
            wrong(job)


def test_job_without_trained_models_stays_as_it_is(make_job: MakeJob, manifest: Manifest, tmp_path: Path) -> None:
    job = make_job()
    check_models(job)
    assert stage_models(job, manifest, tmp_path / "job") is job


def test_plan_names_the_teacher_and_reports_one_that_does_not_fit(make_job: MakeJob, teacher: Path) -> None:
    good = plan(_job(make_job, teacher))
    assert good.problems == ()
    assert f"also from {teacher} (weight 0.5)" in good.steps[1].text
    regression = make_job("regression", train__distill={"teacher": str(teacher)})
    (problem,) = plan(regression).problems
    assert "predicts label (binary), and the job's label is label (regression)" in problem
    with pytest.raises(ModelError, match="predicts label"):
        pipeline.check(regression)
    pipeline.check(regression, opens_models=False)


def test_network_to_prune_has_the_same_model_part(make_job: MakeJob, teacher: Path) -> None:
    prune = {"model": str(teacher), "share": 0.5}
    check_models(make_job(model={"builder": _BUILDER, "options": {"hidden": [8]}}, train__prune=prune))
    with pytest.raises(ModelError, match=r"train\.prune\.model: small .* its network has another options"):
        check_models(make_job(model={"builder": _BUILDER, "options": {"hidden": [4]}}, train__prune=prune))
