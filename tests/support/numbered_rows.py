"""Readers of datasets whose rows carry their row number (see the `write_dataset` fixture)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from farandole.loading import Batch, TrainingLoader
from farandole.shards import Dataset

WriteDataset = Callable[..., Dataset]
"""Type of the fixture that writes such a dataset."""


def row_numbers(batch: Batch) -> list[int]:
    """Return the row numbers of a batch, on which all columns must agree."""
    number = batch.features["ids"][:, 0]
    dense = batch.features["dense"]
    assert torch.equal(dense, torch.stack([number, -number] * (dense.shape[1] // 2), dim=1).float())
    assert torch.equal(batch.label, number * 2.0)
    assert batch.rows == len(number)
    return [int(value) for value in number]


def read_epoch(dataset: Dataset, size: int, number: int = 0, first_step: int = 0, **options: object) -> list[list[int]]:
    """Return the row numbers of an epoch's global batches, assembled from all ranks."""
    ranks = []
    for rank in range(size):
        loader = TrainingLoader(dataset, global_batch_size=7, rank=rank, size=size, **options)  # type: ignore[arg-type]
        ranks.append([row_numbers(batch) for batch in loader.epoch(number, first_step)])
    assert len({len(batches) for batches in ranks}) == 1
    return [[row for rank in step for row in rank] for step in zip(*ranks, strict=True)]


def loader_threads() -> list[threading.Thread]:
    """Return the running prefetch threads."""
    return [thread for thread in threading.enumerate() if thread.name == "farandole-loader"]


def batch_of(*values: int) -> Batch:
    """Return a batch with these labels."""
    return Batch({}, torch.tensor(values), len(values), len(values))
