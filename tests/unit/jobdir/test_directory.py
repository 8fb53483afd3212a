from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.jobdir.directory import (
    create_directory,
    create_job_directory,
    find_job_directory,
    load_job,
    newest_directory,
    save_spec,
)
from farandole.jobdir.layout import jobs_folder, sweeps_folder
from tests.support.queued import shell_job


def test_directories_of_submissions_have_distinct_names() -> None:
    job = shell_job()
    names = {create_job_directory(job).name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith(f"{job.name}-2") for name in names)


def test_saved_job_is_loaded_unchanged(tmp_path: Path) -> None:
    job = shell_job()
    assert save_spec(tmp_path, job) == tmp_path / "job.json"
    assert load_job(tmp_path) == job


def test_damaged_spec_is_reported_with_its_path(tmp_path: Path) -> None:
    raw = json.loads(save_spec(tmp_path, shell_job()).read_text())
    (tmp_path / "job.json").write_text(json.dumps({**raw, "colour": "red"}))
    with pytest.raises(SpecError, match=f"{tmp_path}/job.json: colour"):
        load_job(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_job(tmp_path / "none")


def test_job_is_found_by_its_id() -> None:
    job = shell_job()
    directory = create_job_directory(job)
    save_spec(directory, job)
    assert find_job_directory(directory.name) == directory
    with pytest.raises(SpecError, match=f"there is no such job here; did you mean {directory.name}"):
        find_job_directory(directory.name + "x")


def test_newest_sweep_is_the_one_whose_spec_was_written_last() -> None:
    job = shell_job()
    directories = [create_directory(sweeps_folder(), job.name) for _ in range(3)]
    for age_s, directory in zip((30, 10, 20), directories, strict=True):
        os.utime(save_spec(directory, job), (1e9 - age_s, 1e9 - age_s))
    assert newest_directory(sweeps_folder(), job.name) == directories[1]


def test_job_of_a_longer_name_is_not_taken_for_the_newest() -> None:
    job = shell_job()
    longer = job.model_copy(update={"name": f"{job.name}-2"})
    save_spec(create_job_directory(longer), longer)
    (create_directory(jobs_folder(), job.name) / "job.json").write_text("{torn")
    assert newest_directory(jobs_folder(), job.name) is None
