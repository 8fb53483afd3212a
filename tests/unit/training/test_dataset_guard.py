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
    """Replace the dataset by another one."""
    shutil.rmtree(dataset.directory)
    shutil.copytree(made(seed=1).path, dataset.directory)


def test_unchanged_dataset_passes(dataset: Dataset) -> None:
    with explain_dataset_change(dataset):
        check_unchanged(dataset)
    assert dataset.manifest.digest == Dataset(dataset.directory).manifest.digest


def test_dataset_prepared_again_is_reported(dataset: Dataset, made: Callable[..., Made]) -> None:
    before = dataset.manifest.digest
    prepare_again(dataset, made)
    now = made(seed=1).manifest.digest
    with pytest.raises(DatasetError) as caught:
        check_unchanged(dataset)
    assert str(caught.value).startswith(
        f"{dataset.directory}: the dataset changed during training: its digest was {before[:12]} and is now {now[:12]}"
    )


def test_missing_shard_of_a_changed_dataset_is_reported_as_the_change(
    dataset: Dataset, made: Callable[..., Made]
) -> None:
    prepare_again(dataset, made)
    with pytest.raises(DatasetError, match="changed during training"), explain_dataset_change(dataset):
        raise DatasetError("train/part-0: missing")


def test_damaged_shard_of_an_unchanged_dataset_is_reported_as_such(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"^damaged$"), explain_dataset_change(dataset):
        raise DatasetError("damaged")


def test_removed_dataset_is_reported(dataset: Dataset) -> None:
    shutil.rmtree(dataset.directory)
    with pytest.raises(DatasetError, match=r"manifest\.json.* the dataset existed when training began"):
        check_unchanged(dataset)
