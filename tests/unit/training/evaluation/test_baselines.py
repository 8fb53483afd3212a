from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training.evaluation import baselines
from farandole.training.evaluation.baselines import boosting_process, kept_outputs, trivial_name, trivial_outputs
from tests.support.made_data import ROWS, Made

MakeJob = Callable[..., Job]
MakeMade = Callable[..., Made]


def test_trivial_outputs_are_the_mean_and_the_frequencies(made: MakeMade) -> None:
    for kind in ("binary", "multiclass", "regression"):
        dataset, raw = Dataset(made(kind).path), made(kind).raw["train"]["label"]
        label, outputs = dataset.manifest.columns.target, trivial_outputs(dataset, 5)
        assert outputs.shape == (5, label.num_outputs)
        assert outputs.dtype == torch.float64
        assert (outputs == outputs[0]).all()
        if kind == "regression":
            assert trivial_name(label) == "mean"
            assert outputs[0, 0].item() == pytest.approx(raw.mean(), rel=1e-6)
            continue
        assert trivial_name(label) == "prior"
        shares = [(raw.astype(str).str.lower() == name).mean() for name in label.classes]
        found = outputs[0].sigmoid() if kind == "binary" else outputs[0].softmax(0)
        assert found.tolist() == pytest.approx(shares[-len(found) :])


def test_a_sample_is_read_where_the_manifest_has_no_statistics_of_the_label(
    made: MakeMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "_SAMPLE_ROWS", 300)
    for kind in ("binary", "multiclass", "regression"):
        dataset = Dataset(made(kind).path)
        known = trivial_outputs(dataset, 1)
        dataset.manifest = dataset.manifest.model_copy(update={"statistics": {}})
        torch.testing.assert_close(trivial_outputs(dataset, 1), known, rtol=0.3, atol=0.3)


def test_boosting_runs_beside_the_block_and_its_result_is_reused(
    make_job: MakeJob, made: MakeMade, tmp_path: Path
) -> None:
    job, dataset = make_job(), Dataset(made().path)
    with boosting_process(job, dataset, tmp_path) as running:
        assert running is not None
        outputs = running.outputs(timeout_s=120)
    assert outputs is not None
    assert outputs.shape == (ROWS["test"], 1)
    with boosting_process(job, dataset, tmp_path) as again:
        assert again is not None
        found = again.outputs(timeout_s=0)
        assert found is not None
        assert torch.equal(found, outputs)
        assert again.problem is None
    assert not list(tmp_path.glob("logs/*")), "there was nothing to report"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_boosting_is_not_computed_again_for_another_job_on_the_same_dataset(
    make_job: MakeJob, made: MakeMade, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, dataset = make_job(), Dataset(made().path)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for directory in (first, second, third):
        directory.mkdir()
    with boosting_process(job, dataset, first) as running:
        assert running is not None
        outputs = running.outputs(timeout_s=120)
    assert outputs is not None
    assert kept_outputs(dataset).is_relative_to(own_home)
    started: list[Path] = []
    monkeypatch.setattr(baselines, "_start", lambda job, output, kept, log: started.append(output))
    with boosting_process(job, dataset, second) as again:
        assert again is not None
        found = again.outputs(timeout_s=0)
    assert found is not None
    assert torch.equal(found, outputs)
    assert not started
    kept_outputs(dataset).write_bytes(b"half of a fi")
    with boosting_process(job, dataset, third):
        assert started == [third / "baseline.npz"]


def test_outputs_for_an_encrypted_dataset_are_not_kept(
    make_job: MakeJob, made: MakeMade, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Path | None] = []
    monkeypatch.setattr(baselines, "_start", lambda job, output, path, log: kept.append(path))
    encrypted = {"size_mib": 1, "encryption": {"key": {"environment": "SHARD_KEY"}}}
    with boosting_process(make_job(data__shards=encrypted), Dataset(made().path), tmp_path):
        assert kept == [None]


def test_boosting_that_fails_or_is_not_ready_has_no_outputs(make_job: MakeJob, made: MakeMade, tmp_path: Path) -> None:
    job, dataset = make_job(data__output=str(tmp_path / "missing")), Dataset(made().path)
    with boosting_process(job, dataset, tmp_path) as running:
        assert running is not None
        assert running.outputs(timeout_s=0) is None
        assert running.problem == "boosting was not ready 0 s after the end of the training"
        assert running.outputs(timeout_s=120) is None
        assert running.problem is not None
        assert running.problem.startswith("boosting failed: farandole.errors.DatasetError: ")
        assert running.problem.endswith(f"; see {tmp_path / 'logs' / 'boosting.log'}")
    assert not list(tmp_path.glob("*.npz"))
    assert "Traceback" in (tmp_path / "logs" / "boosting.log").read_text()


@pytest.mark.parametrize("baseline", ["trivial", "off", False])
def test_boosting_does_not_run_unless_it_is_wanted(
    make_job: MakeJob, made: MakeMade, tmp_path: Path, baseline: str | bool
) -> None:
    with boosting_process(make_job(train__baseline=baseline), Dataset(made().path), tmp_path) as running:
        assert running is None
