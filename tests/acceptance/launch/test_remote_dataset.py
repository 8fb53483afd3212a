"""Gangs that train on a dataset in a real object store, through a proxy that breaks answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from farandole.errors import DatasetError, StorageError
from farandole.launch import train
from farandole.spec import Job
from tests.support.made_data import Made
from tests.support.object_store import FaultyProxy, Folder

pytestmark = pytest.mark.slow

MakeJob = Callable[..., Job]


@pytest.fixture
def remote_job(s3: Folder, made: Callable[..., Made], make_job: MakeJob) -> Job:
    """Return the small job with its dataset in the bucket."""
    s3.put_all(made().path)
    return make_job(data__output=s3.uri, resources__max_restarts=0)


@pytest.mark.slow(seconds=70)
def test_training_from_an_object_store_has_the_same_result_and_fetches_each_shard_once(
    home: Path, proxy: FaultyProxy, s3: Folder, made: Callable[..., Made], make_job: MakeJob, remote_job: Job
) -> None:
    local = train(make_job())
    for kind in ("500", "cut", "short"):
        proxy.inject(kind, 1, method="GET", path="train/")
    remote = train(remote_job)
    assert remote.training.weights_digest == local.training.weights_digest
    assert remote.training.metrics == local.training.metrics
    assert remote.dataset == replace(local.dataset, path=s3.uri)
    assert proxy.broken == 3
    for shards in made().manifest.splits.values():
        for shard in shards:
            answered = proxy.count("GET", shard.file)
            assert answered == 1 or (answered <= 4 and shard.file.startswith("train/")), shard.file


def test_damaged_shard_is_reported_by_name(home: Path, proxy: FaultyProxy, s3: Folder, remote_job: Job) -> None:
    proxy.inject("flip", method="GET", path="train/00001-")
    with pytest.raises(DatasetError, match=rf"{s3.uri}/train/00001-\w+\.arrow: arrived 3 times with the checksum"):
        train(remote_job)


def test_server_that_disappears_is_reported_with_a_remedy(
    home: Path, proxy: FaultyProxy, s3: Folder, remote_job: Job
) -> None:
    proxy.inject("refuse", path="validation/")
    message = rf"{s3.uri}/validation/.*: could not be read in 5 tries: .*; check that the server answers"
    with pytest.raises(StorageError, match=message):
        train(remote_job)
