"""A dataset must stay the same while a job trains on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farandole.errors import DatasetError
from farandole.shards import Dataset, read_manifest


def check_unchanged(dataset: Dataset) -> None:
    """Compare the dataset with what lies in its place now.

    Raises:
        DatasetError: It was prepared again meanwhile, or is gone.
    """
    try:
        digest = read_manifest(dataset.directory).digest
    except DatasetError as error:
        raise DatasetError(f"{error}; it was there when the training began: the dataset changed under it") from error
    was = dataset.manifest.digest
    if digest != was:
        raise DatasetError(
            f"{dataset.directory}: the dataset changed under the running training: its digest was {was[:12]} and is now"
            f" {digest[:12]}, so it was prepared again meanwhile; `farandole train` begins anew with what lies there"
            " now, and a job that keeps its data gives each preparation a `data.output` of its own"
        )


@contextmanager
def explain_dataset_change(dataset: Dataset) -> Iterator[None]:
    """Where a shard cannot be read, say first whether that is because the dataset changed."""
    try:
        yield
    except DatasetError:
        check_unchanged(dataset)
        raise
