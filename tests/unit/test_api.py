"""The package's public names, and the functions that need no gang."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import farandole
from farandole import api
from farandole.errors import ModelError, SpecError
from farandole.events import Event
from farandole.jobdir.foreground import foreground_job
from farandole.launch import DatasetSummary, TrainedModel, TrainingSummary
from farandole.pipeline import RunResult
from farandole.spec import Job
from tests.support.paths import PACKAGE
from tests.support.queued import shell_job

MakeJob = Callable[..., Job]
GOLDEN = Path(__file__).parent / "golden"
SUMMARY = TrainingSummary(
    mlflow_run_id="abc",
    workers=2,
    steps=3,
    rows_per_s=1234.5,
    weights_digest="0" * 64,
    metrics={"test": {"roc_auc": 0.75}, "validation": {"roc_auc": 0.5}},
    time_split={"data_wait_s": 0.5},
    time_by_rank=[{"data_wait_s": 0.5}, {"data_wait_s": 0.25}],
    straggler=None,
    attempts=1,
    recoveries=[],
)


def test_public_names_are_sorted_and_importable() -> None:
    assert farandole.__all__ == sorted(farandole.__all__)
    assert dir(farandole) == farandole.__all__
    for name in farandole.__all__:
        found = getattr(farandole, name)
        if name not in ("Event", "EventHandler"):  # aliases of types
            assert found.__name__ == name
            assert found.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = farandole.trian


def test_type_checkers_and_lazy_imports_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == farandole._SOURCES


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, farandole; print(sorted(name for name in sys.modules if name.startswith('farandole.')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_plan_remains_a_function_after_its_module_is_imported() -> None:
    assert callable(farandole.plan)
    assert farandole.sweep.__module__ == "farandole.api"


@pytest.mark.parametrize("stage", [api.prepare, api.train, api.run])
def test_no_stage_starts_without_its_builder(
    farandole_home: Path, make_job: MakeJob, stage: Callable[[Job], object]
) -> None:
    with pytest.raises(ModelError, match="there is no module nowhere"):
        stage(make_job(model={"builder": "nowhere:build", "options": {}}))
    assert not (farandole_home / "jobs").exists()


def test_current_dataset_is_reused_without_spark(make_job: MakeJob) -> None:
    events: list[Event] = []
    assert api.prepare(make_job(), events.append).reused
    assert str(events[-1]).endswith("exist already, nothing has changed")


def test_result_document_has_its_promised_keys(make_job: MakeJob) -> None:
    job = make_job()
    prepared = api.prepare(job)
    dataset = DatasetSummary(**{**prepared.to_dict(), "path": "/data/things", "digest": "1" * 64})
    trained = TrainedModel("small", "small-1", Path("/jobs/small-1"), dataset, SUMMARY, "models:/small/1")
    document = RunResult(job, prepared, trained).to_dict()
    assert document == json.loads((GOLDEN / "run.json").read_text(encoding="utf-8"))
    assert list(document) == ["job", "id", "directory", "dataset", "training", "model"]


def test_every_command_finds_a_job_in_the_foreground_in_the_same_way(farandole_home: Path) -> None:
    with foreground_job(shell_job(), lambda event: None) as here:
        assert api.find_backend(here.directory.name).name == "foreground"
        with pytest.raises(SpecError, match="only a running job changes its size, and it is not training"):
            api.scale(here.directory.name, 1)
    with pytest.raises(SpecError, match=rf"did you mean {here.directory.name}\?"):
        api.scale(f"{here.directory.name}x", 1)
    with pytest.raises(SpecError, match="is not the id of a job"):
        api.status(f"../jobs/{here.directory.name}")
