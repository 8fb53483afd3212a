"""Checks of jobs, and how often the pipeline opens what it works on."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farandole import pipeline
from farandole.errors import DatasetError, ModelError, SpecError, UnavailableError
from farandole.events import Event, Message
from farandole.pipeline import check_builder, is_stale
from farandole.shards import MANIFEST_NAME, read_manifest
from farandole.spec import Job
from tests.support.opened import FirstWorkerError

MakeJob = Callable[..., Job]


def test_run_opens_each_source_once_and_reads_the_manifest_once(make_job: MakeJob, opened: Counter[str]) -> None:
    checked = pipeline.check(make_job())
    with pytest.raises(FirstWorkerError):
        pipeline.run(checked)
    assert opened == {"source things": 1, "cache key": 1, MANIFEST_NAME: 1}


def test_missing_captum_is_reported_before_the_preparation(
    make_job: MakeJob, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str, *rest: Any) -> Any:
        return None if name == "captum" else real(name, *rest)

    job = make_job()
    checked = pipeline.check(job.model_copy(update={"train": job.train.model_copy(update={"explain": True})}))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(UnavailableError, match=r"pip install 'farandole\[explain\]'"):
        pipeline.run(checked)
    assert not opened


def test_train_opens_each_source_once_to_warn_of_a_stale_dataset(make_job: MakeJob, opened: Counter[str]) -> None:
    checked = pipeline.check(make_job(), ["train"])
    with pytest.raises(FirstWorkerError):
        pipeline.train(checked, pipeline.load_prepared(checked))
    assert opened == {"source things": 1, "cache key": 1, MANIFEST_NAME: 1}


def test_a_dataset_that_another_process_has_just_prepared_is_not_compared(
    make_job: MakeJob, opened: Counter[str]
) -> None:
    checked = pipeline.check(make_job(), ["train"])
    with pytest.raises(FirstWorkerError):
        pipeline.train(checked, pipeline.load_prepared(checked, warn_if_stale=False))
    assert opened == {MANIFEST_NAME: 1}


def test_dataset_of_other_features_is_stale(make_job: MakeJob) -> None:
    manifest = read_manifest(make_job().data.output)
    assert not is_stale(make_job(), manifest)
    assert is_stale(make_job(data__features={"width": {"kind": "numeric"}}), manifest)
    assert not is_stale(make_job(data__sources={"things": {"path": "/nowhere.csv"}}), manifest)


def test_stale_dataset_is_loaded_with_a_warning(make_job: MakeJob) -> None:
    events: list[Event] = []
    assert pipeline.load_prepared(pipeline.check(make_job()), events.append).reused
    assert events == []
    pipeline.load_prepared(pipeline.check(make_job(data__features={"width": {"kind": "numeric"}})), events.append)
    (message,) = events
    assert isinstance(message, Message)
    assert message.level == "warning"
    assert message.text.endswith("was made from other sources, features or code; `farandole prepare` renews it")


def test_missing_dataset_is_an_error_that_names_the_remedy(make_job: MakeJob, tmp_path: Path) -> None:
    checked = pipeline.check(make_job(data__output=str(tmp_path / "new")), ["train"])
    with pytest.raises(DatasetError, match="run `farandole prepare"):
        pipeline.load_prepared(checked)


def test_each_stage_is_checked_for_what_it_needs(make_job: MakeJob) -> None:
    no_label = make_job(data__label=None)
    assert pipeline.check(no_label, ["prepare"]).job == no_label
    with pytest.raises(SpecError, match=r"data\.label: missing"):
        pipeline.check(no_label, ["train"])
    no_builder = make_job(model={"builder": "nowhere:build", "options": {}})
    for stages in (["prepare"], ["train"], ["prepare", "train"]):
        with pytest.raises(ModelError, match="there is no module nowhere"):
            pipeline.check(no_builder, stages)  # type: ignore[arg-type]
    assert pipeline.check(no_builder, ["prepare"], needs_builder=False).job == no_builder


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
def test_missing_builder_is_reported_without_importing_anything(make_job: MakeJob, builder: str, text: str) -> None:
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
def test_builder_may_be_any_object_with_the_name(make_job: MakeJob, source: str) -> None:
    job = make_job(model={"builder": "own.networks:build", "options": {}})
    package = Path(job.folder or "", "own")
    package.mkdir()
    (package / "networks.py").write_text(source)
    check_builder(job)
    assert "own.networks" not in sys.modules  # found without an import
