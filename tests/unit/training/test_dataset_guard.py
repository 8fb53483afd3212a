from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.errors import DatasetError
from farandole.shards import Dataset
from farandole.training.dataset_guard import check_unchanged, explain_dataset_change
from tests.support.made_data import Made


@pytest.fixture
def dataset(made: Callable[..., Made], tmp_path: Path) -> Dataset:
    shutil.copytree(made().path, tmp_path / "dataset")
    return Dataset(tmp_path / "dataset")


def prepare_again(dataset: Dataset, made: Callable[..., Made]) -> None:
    """Another dataset takes the place."""
    shutil.rmtree(dataset.directory)
    shutil.copytree(made(seed=1).path, dataset.directory)


def test_what_did_not_change_is_fine(dataset: Dataset) -> None:
    with explain_dataset_change(dataset):
        check_unchanged(dataset)
    assert dataset.manifest.digest == Dataset(dataset.directory).manifest.digest


def test_a_dataset_that_was_prepared_again_is_told(dataset: Dataset, made: Callable[..., Made]) -> None:
    was = dataset.manifest.digest
    prepare_again(dataset, made)
    now = made(seed=1).manifest.digest
    with pytest.raises(DatasetError) as caught:
        check_unchanged(dataset)
    assert str(caught.value).startswith(
        f"{dataset.directory}: the dataset changed under the running training: its digest was {was[:12]} and is now"
        f" {now[:12]}"
    )


def test_a_shard_that_is_gone_is_the_smaller_news(dataset: Dataset, made: Callable[..., Made]) -> None:
    prepare_again(dataset, made)
    with pytest.raises(DatasetError, match="changed under the running training"), explain_dataset_change(dataset):
        raise DatasetError("train/part-0: missing")


def test_a_damaged_shard_of_the_same_dataset_stays_what_it_is(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"^damaged$"), explain_dataset_change(dataset):
        raise DatasetError("damaged")


def test_a_dataset_that_is_gone_is_told(dataset: Dataset) -> None:
    shutil.rmtree(dataset.directory)
    with pytest.raises(DatasetError, match=r"no manifest\.json.* the dataset changed under it"):
        check_unchanged(dataset)
