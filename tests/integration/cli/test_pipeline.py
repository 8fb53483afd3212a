"""`plan`, `run` and `train` as processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import farandole
from tests.support.made_data import WriteJob


def _snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_plan_lists_the_steps_and_writes_nothing(home: Path, write_job: WriteJob, tmp_path: Path) -> None:
    job = write_job()
    before = _snapshot(tmp_path)
    done = farandole("plan", job)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("   ")]
    steps = [" ".join(line.split()[:2]).rstrip(":") for line in lines[:4]]
    assert steps == ["1. prepare", "2. train", "3. evaluate", "4. register"]
    assert lines[4].startswith("✔ no problems found")
    assert _snapshot(tmp_path) == before


def test_plan_prints_one_document_and_exits_with_2_on_problems(home: Path, write_job: WriteJob) -> None:
    job = write_job(model={"builder": "nowhere:build", "options": {}})
    done = farandole("plan", job, "--json", "--set", "train.epochs=7")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert set(document) == {"problems", "steps", "objects"}
    assert document["problems"][0].startswith("model.builder: nowhere:build: there is no module nowhere")
    assert "for 7 epochs" in document["steps"][1]["text"]


def test_all_mistakes_of_a_job_file_are_reported_together_with_remedies(home: Path, write_job: WriteJob) -> None:
    job = write_job(train={"epoch": 3, "global_batch_size": 0}, resources={"workers": "two"})
    done = farandole("train", job)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert any(f"farandole: {job}: train.epoch: unknown key; did you mean `epochs`? (line " in line for line in lines)
    assert any("train.global_batch_size: 0: " in line for line in lines)
    assert any("resources.workers: 'two': " in line for line in lines)


@pytest.mark.parametrize("builder", ["nowhere:build", "network:biuld"])
def test_missing_builder_is_reported_before_anything_starts(home: Path, write_job: WriteJob, builder: str) -> None:
    for command in ("run", "train", "prepare"):
        done = farandole(command, write_job(model={"builder": builder, "options": {}}))
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"farandole: model.builder: {builder}: ")
    assert not (home / "jobs").exists()


def test_missing_dataset_is_reported_with_the_command_that_creates_it(
    home: Path, write_job: WriteJob, tmp_path: Path
) -> None:
    done = farandole("train", write_job(data__output=str(tmp_path / "new")))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"farandole: {tmp_path / 'new'}: no manifest.json, so no dataset")
    assert "run `farandole prepare JOB.yaml`" in line


@pytest.mark.slow
def test_run_prints_one_document_on_stdout_and_plain_progress_on_stderr(home: Path, write_job: WriteJob) -> None:
    # The boosted trees are late on a busy machine, which is a warning among the stages.
    job = write_job(train__baseline="trivial")
    done = farandole("run", job, "--json", "--set", "train.epochs=1", "--set", "resources.workers=1")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) >= {"job", "dataset", "training", "model"}
    assert document["job"] == "small"
    assert set(document["dataset"]) == {"path", "digest", "rows", "left_out", "reused"}
    assert document["dataset"]["reused"] is True
    assert document["dataset"]["rows"] == {"train": 962, "validation": 150, "test": 150}
    assert document["training"]["steps"] == 16
    assert document["training"]["workers"] == 1
    assert document["model"]["uri"] == "models:/small/1"
    assert "\x1b" not in done.stderr
    stages = [line.partition("] ")[2].partition(":")[0] for line in done.stderr.splitlines()]
    assert [stage for stage in dict.fromkeys(stages) if not stage.startswith("epoch")] == [
        "prepare", "train", "evaluate", "register",
    ]  # fmt: skip
    assert any("epoch 1 of 1: validation roc_auc" in line for line in done.stderr.splitlines())


@pytest.mark.slow
def test_debug_option_shows_the_stack_trace_of_a_worker(home: Path, write_job: WriteJob) -> None:
    job = write_job(model={"builder": "network:build_raising", "options": {}}, resources__workers=1)
    done = farandole("--debug", "train", job)
    assert done.returncode == 2
    assert (
        f"farandole: model.builder: network:build_raising: raised KeyError: 'no such layer' in {job.parent}"
        in done.stderr
    )
    assert 'raise KeyError("no such layer")' in done.stderr
    assert "Traceback (most recent call last)" in done.stderr


def test_scaling_an_unknown_job_is_rejected(home: Path) -> None:
    done = farandole("scale", "nowhere-1", "2")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "farandole: nowhere-1: no job with this id was run or submitted here; `farandole jobs` lists them"
    )
