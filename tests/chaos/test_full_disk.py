"""Training on a disk that becomes full."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from farandole.errors import TrainingError
from farandole.launch import train
from farandole.spec import Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MakeJob = Callable[..., Job]


@pytest.fixture
def tiny_disk(home: Path) -> Iterator[Path]:
    """Mount a file system of 400 KiB at the directory of all jobs."""
    jobs = home / "jobs"
    jobs.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", jobs], check=False).returncode
    ):
        pytest.skip("only root can mount a file system")
    try:
        yield jobs
    finally:
        subprocess.run(["umount", "--lazy", jobs], check=True)


def test_full_disk_ends_the_job_and_older_checkpoints_remain_valid(tiny_disk: Path, make_job: MakeJob) -> None:
    job = make_job(
        model={"builder": "farandole.models.mlp:build", "options": {"hidden": [64, 64]}},
        train__checkpoint={"keep": 50},
        train__epochs=50,
        resources__workers=1,
    )
    with pytest.raises(
        TrainingError, match=r"the checkpoint of step \d+ cannot be written .*free some space"
    ) as caught:
        train(job)
    assert str(tiny_disk) in str(caught.value)
    (directory,) = tiny_disk.iterdir()
    kept = sorted((directory / "checkpoints").iterdir())
    assert kept, "nothing was saved before the disk was full"
    assert all(path.name.startswith("step-") for path in kept)
    for path in kept:
        meta = json.loads((path / "meta.json").read_text())
        torch.load(path / "state.pt", weights_only=True)
        assert path.name == f"step-{meta['step']:09d}"
