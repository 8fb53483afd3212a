"""Guard against a dataset that is prepared again while a job trains on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farandole.errors import DatasetError
from farandole.shards import Dataset, read_manifest


def check_unchanged(dataset: Dataset) -> None:
    """Compare the open dataset with the manifest that is on disk now.

    Raises:
        DatasetError: The dataset was prepared again or removed.
    """
    try:
        digest = read_manifest(dataset.directory).digest
    except DatasetError as error:
        raise DatasetError(f"{error}; the dataset existed when training began and was removed since then") from error
    expected = dataset.manifest.digest
    if digest != expected:
        raise DatasetError(
            f"{dataset.directory}: the dataset changed during training: its digest was {expected[:12]} and is now"
            f" {digest[:12]}, so it was prepared again; run `farandole train` to start over with the new dataset, or"
            " give each preparation its own `data.output`"
        )


@contextmanager
def explain_dataset_change(dataset: Dataset) -> Iterator[None]:
    """Replace a read error by the change of the dataset that explains it, if there was one."""
    try:
        yield
    except DatasetError:
        check_unchanged(dataset)
        raise
