"""Completions of the shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer import _completion_shared

from farandole.cli.completion import (
    backends,
    datasets,
    ids_to_send,
    job_files,
    job_ids,
    kinds_of_labels,
    one_of,
    overrides,
    use_bash_script,
)
from farandole.jobdir.foreground import foreground_job
from farandole.jobdir.layout import TRACKING, jobs_folder, sweeps_folder
from farandole.tracking.run_link import RANK_ZERO_SPOOL
from tests.support.queued import shell_job


def test_job_files_and_folders_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("job.yaml", "jobs/flights.yml", "notes.txt", ".hidden.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert job_files("") == ["job.yaml", "jobs/"]
    assert job_files("jobs/") == ["jobs/flights.yml"]
    assert job_files(f"{tmp_path}/jo") == [f"{tmp_path}/job.yaml", f"{tmp_path}/jobs/"]
    assert job_files("none/x") == []


def test_fields_and_then_their_values_are_completed() -> None:
    assert "train.epochs=" in overrides("train.ep")
    assert "train.optimizer.learning_rate=" in overrides("train.optimizer.")
    assert "resources.workers=" in overrides("resources.w")
    assert set(overrides("train.optimizer.name=adam")) >= {"train.optimizer.name=adam", "train.optimizer.name=adamw"}
    assert overrides("data.split.train=") == []
    assert overrides("trian.") == []


def test_fields_that_only_programs_write_are_not_completed() -> None:
    assert overrides("data.auto_features") == []
    assert overrides("folder") == []


def test_datasets_are_completed_by_path_and_by_name(farandole_home: Path) -> None:
    dataset = farandole_home / "datasets" / "flights"
    dataset.mkdir(parents=True)
    assert datasets("fli") == []
    (dataset / "manifest.json").touch()
    assert datasets("fli") == [str(dataset)]
    assert str(dataset) in datasets(str(farandole_home / "datasets"))


def test_ids_of_jobs_in_the_foreground_are_completed() -> None:
    with foreground_job(shell_job(), lambda event: None) as here:
        assert job_ids("ti") == [here.directory.name]
    assert job_ids("x") == []


def test_kinds_of_labels_are_completed() -> None:
    assert kinds_of_labels("") == ["binary", "multiclass", "regression"]
    assert kinds_of_labels("m") == ["multiclass"]


def test_backends_and_fixed_words_are_completed() -> None:
    assert backends("") == ["local", "hosts", "kubernetes"]
    assert backends("k") == ["kubernetes"]
    assert one_of("queued", "failed")("f") == ["failed"]


def test_only_jobs_and_sweeps_with_unsent_records_are_completed(farandole_home: Path) -> None:
    for folder, name in ((jobs_folder(), "houses-1"), (jobs_folder(), "houses-2"), (sweeps_folder(), "houses-3")):
        (folder / name).mkdir(parents=True)
    for directory in (jobs_folder() / "houses-2", sweeps_folder() / "houses-3"):
        records = directory / TRACKING / RANK_ZERO_SPOOL / "000001.jsonl"
        records.parent.mkdir(parents=True)
        records.touch()
    assert ids_to_send("hou") == ["houses-3", "houses-2"]
    assert ids_to_send("x") == []


def test_typer_prints_and_installs_this_script() -> None:
    use_bash_script()
    script = _completion_shared.get_completion_script(
        prog_name="farandole", complete_var="_FARANDOLE_COMPLETE", shell="bash"
    )
    assert "compopt -o nospace" in script
    assert "complete -o default -F _farandole_completion farandole" in script
    assert "%%" not in script.replace("${rest%%[", "")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
