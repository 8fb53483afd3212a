from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.jobdir.locks import is_training, training_lock, try_lock_job


def test_second_training_in_a_directory_is_refused(tmp_path: Path) -> None:
    assert not is_training(tmp_path)
    with training_lock(tmp_path):
        assert is_training(tmp_path)
        with pytest.raises(SpecError, match=f"--resume: {tmp_path.name} is still running"), training_lock(tmp_path):
            raise AssertionError("two trainings hold the lock")
    assert not is_training(tmp_path)


def test_job_has_one_runner(tmp_path: Path) -> None:
    lock = try_lock_job(tmp_path)
    assert lock is not None
    assert try_lock_job(tmp_path) is None
    lock.release()
    assert (tmp_path / "runner.lock").exists()


def test_job_whose_directory_was_removed_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        try_lock_job(tmp_path / "gone")
