"""Requests for another number of workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.jobdir.directory import create_job_directory, save_spec
from farandole.jobdir.locks import training_lock
from farandole.jobdir.scaling import clear_scale_request, read_scale_request, requested_workers, scale
from farandole.spec import parse_job
from tests.support.queued import shell_job

BATCH_ROWS = 64


def test_impossible_sizes_are_rejected(farandole_home: Path) -> None:
    data = {"sources": {"things": {"path": "things.csv"}}, "features": {"x": {"kind": "numeric"}}}
    resources = {"workers": 4, "min_workers": 2}
    train = {"global_batch_size": BATCH_ROWS}
    job = parse_job({"name": "small", "data": data, "resources": resources, "train": train})
    directory = farandole_home / "jobs" / "small-20260101-000000-abcd"
    with pytest.raises(SpecError, match=r"small-2026: there is no such job here; the jobs are the folders of "):
        scale("small-2026", 2)
    directory.mkdir(parents=True)
    (directory / "job.json").write_text(job.model_dump_json())
    with pytest.raises(SpecError, match=rf"there is no such job here; did you mean {directory.name}\?"):
        scale(directory.name[:-1] + "e", 2)
    with pytest.raises(SpecError, match=r"1 workers are fewer than resources\.min_workers, 2; ask for at least 2"):
        scale(directory.name, 1)
    with pytest.raises(SpecError, match=rf"65 workers are more than the {BATCH_ROWS} rows of a global batch"):
        scale(directory.name, BATCH_ROWS + 1)
    with pytest.raises(SpecError, match=r"only a running job changes its size, and it is not training"):
        scale(directory.name, 3)
    for state, found in (("running", "its supervisor has died"), ("succeeded", "its state is succeeded")):
        (directory / "status.json").write_text(json.dumps({"state": state}))
        with pytest.raises(SpecError, match=f"and {found}; use `farandole retry {directory.name}`"):
            scale(directory.name, 3)
    assert not (directory / "scale.json").exists()


def test_request_is_read_by_the_supervisor_and_cleared_by_the_next_start() -> None:
    job = shell_job()
    directory = create_job_directory(job)
    save_spec(directory, job)
    assert requested_workers(directory, 3) == 3
    with training_lock(directory):
        scale(directory.name, 1)
        first = read_scale_request(directory, 3)
        scale(directory.name, 1)
    assert (first.workers, requested_workers(directory, 3)) == (1, 1)
    assert read_scale_request(directory, 3).number >= first.number > 0
    clear_scale_request(directory)
    clear_scale_request(directory)
    assert read_scale_request(directory, 3).number == 0
