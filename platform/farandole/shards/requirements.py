"""Requirements of a job that a dataset has to meet before the job trains on it."""

from __future__ import annotations

from farandole.errors import DatasetError
from farandole.privacy import missing_policies
from farandole.shards.manifest import Manifest
from farandole.spec import Data


def unmet_requirements(data: Data, manifest: Manifest) -> list[str]:
    """Return the requirements that a dataset does not meet, one line for each.

    Args:
        data: The data part of the job.
        manifest: The manifest of the dataset in `data.output`.
    """
    lacking = missing_policies(data.privacy, manifest.privacy)
    if data.shard_key is not None and manifest.encryption is None:
        lacking.append("data.shards.encryption: the job requires encrypted shards, and those of the dataset are not")
    return lacking


def require_policies(data: Data, manifest: Manifest) -> None:
    """Check that a dataset was protected as the job requires.

    Args:
        data: The data part of the job.
        manifest: The manifest of the dataset in `data.output`.

    Raises:
        DatasetError: A policy is missing or another one was applied (the text names column and policy), or shards are
            not encrypted.
    """
    lacking = unmet_requirements(data, manifest)
    if lacking:
        raise DatasetError(
            "\n".join(f"{text}; training refuses {data.output}: run `farandole prepare`" for text in lacking)
        )
