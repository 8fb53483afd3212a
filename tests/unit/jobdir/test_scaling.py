from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.jobdir.directory import create_job_directory, save_spec
from farandole.jobdir.locks import training_lock
from farandole.jobdir.scaling import clear_scale_request, read_scale_request, requested_workers, scale
from tests.support.queued import shell_job


@pytest.fixture
def directory() -> Path:
    job = shell_job()
    directory = create_job_directory(job)
    save_spec(directory, job)
    return directory


def test_request_is_read_by_the_supervisor_and_cleared_by_the_next_start(directory: Path) -> None:
    assert requested_workers(directory, 3) == 3
    with training_lock(directory):
        scale(directory.name, 2)
        first = read_scale_request(directory, 3)
        assert first.workers == 2
        scale(directory.name, 2)
    assert requested_workers(directory, 3) == 2
    clear_scale_request(directory)
    clear_scale_request(directory)
    assert read_scale_request(directory, 3).number == 0


def test_job_that_does_not_train_is_not_scaled(directory: Path) -> None:
    with pytest.raises(SpecError, match="only a running job changes its size, and it is not training"):
        scale(directory.name, 2)
    with pytest.raises(SpecError, match="there is no such job here"):
        scale("nowhere-1", 2)


@pytest.mark.parametrize(("workers", "text"), [(0, "fewer than resources.min_workers"), (10**6, "more than the")])
def test_impossible_number_of_workers_is_refused(directory: Path, workers: int, text: str) -> None:
    with training_lock(directory), pytest.raises(SpecError, match=text):
        scale(directory.name, workers)
    assert not (directory / "scale.json").exists()
