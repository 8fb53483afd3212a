"""Batches of tensors for one rank, read ahead by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from farandole.loading.assign import slice_of
from farandole.loading.order import EpochOrder, Places
from farandole.shards import LABEL, Dataset, SplitReader

_READ_AHEAD = 2
_EVALUATION_ROWS = 8192


@dataclass(frozen=True)
class Batch:
    """This rank's part of one global batch.

    Args:
        features: For each group a tensor `[rows, size]`, float32 or int32.
        label: `[rows]`, int32 or float32; empty where the dataset has no label.
        rows: The rows of this rank.
        global_rows: The rows of the batch over all ranks; what a sum of losses is divided by.
    """

    features: dict[str, torch.Tensor]
    label: torch.Tensor
    rows: int
    global_rows: int

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        if device.type == "cpu":
            return self
        features = {name: tensor.to(device, non_blocking=True) for name, tensor in self.features.items()}
        return Batch(features, self.label.to(device, non_blocking=True), self.rows, self.global_rows)


class TrainingLoader:
    """The training split in the order of rows, shuffled anew in each epoch.

    Args:
        dataset: The dataset.
        global_batch_size: Rows of one step over all ranks.
        rank: This rank.
        size: The number of ranks.
        seed: Decides the order.
        tail: What becomes of the rows that do not fill a batch.
        pin: Use pinned memory, for copies to a GPU that do not wait.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        global_batch_size: int,
        rank: int = 0,
        size: int = 1,
        seed: int = 0,
        tail: Literal["weight", "drop"] = "weight",
        pin: bool = False,
    ) -> None:
        self._reader = dataset.split("train")
        self._digest = dataset.manifest.digest
        self._global_batch_size = global_batch_size
        self._rank, self._size = rank, size
        self._seed, self._tail, self._pin = seed, tail, pin

    def order(self, epoch: int) -> EpochOrder:
        """The order of rows in an epoch."""
        return EpochOrder(self._reader.block_rows, self._global_batch_size, self._tail, self._digest, self._seed, epoch)

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        return self.order(0).steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of this rank, from `first_step` on."""
        order = self.order(epoch)

        def batches() -> Iterator[Batch]:
            for step in range(first_step, order.steps):
                rows = order.batch_rows(step)
                places = order.places(step, *slice_of(self._rank, self._size, rows))
                yield _batch(self._reader, places, rows, self._pin)

        return read_ahead(batches())


class EvaluationLoader:
    """A split in its written order, each row once, dealt evenly to the ranks.

    Args:
        dataset: The dataset.
        split: `train`, `validation` or `test`.
        rank: This rank.
        size: The number of ranks.
        batch_rows: Rows of one batch of this rank.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        rank: int = 0,
        size: int = 1,
        batch_rows: int = _EVALUATION_ROWS,
    ) -> None:
        self._reader = dataset.split(split)
        self._start, self._stop = slice_of(rank, size, self._reader.rows)
        self._batch_rows = batch_rows

    def __iter__(self) -> Iterator[Batch]:
        ends = np.cumsum(self._reader.block_rows, dtype=np.int64)

        def batches() -> Iterator[Batch]:
            for start in range(self._start, self._stop, self._batch_rows):
                rows = np.arange(start, min(start + self._batch_rows, self._stop))
                block = np.searchsorted(ends, rows, side="right")
                begins = ends[block] - np.asarray(self._reader.block_rows)[block]
                yield _batch(self._reader, Places(block, rows - begins), len(rows), pin=False)

        return read_ahead(batches())


def read_ahead(batches: Iterator[Batch], depth: int = _READ_AHEAD) -> Iterator[Batch]:
    """The same batches, made by a thread while the caller computes. What the thread raises, the caller gets."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=depth)
    unwanted = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not unwanted.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if unwanted.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            put(error)

    thread = threading.Thread(target=work, name="farandole-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        unwanted.set()
        thread.join()


def _batch(reader: SplitReader, places: Places, global_rows: int, pin: bool) -> Batch:
    """Gather rows, block by block, into tensors of our own: Arrow's memory is read-only."""
    tensors: dict[str, torch.Tensor] = {}
    blocks = np.unique(places.block)
    for number in blocks.tolist() or [0]:
        views = reader.block(number)
        chosen = np.flatnonzero(places.block == number)
        rows = places.row[chosen]
        for name, view in views.items():
            if name not in tensors:
                dtype = torch.from_numpy(np.empty(0, view.dtype)).dtype
                tensors[name] = torch.empty((len(places.row), *view.shape[1:]), dtype=dtype, pin_memory=pin)
            if len(blocks) == 1:
                np.take(view, rows, axis=0, out=tensors[name].numpy())
            else:
                tensors[name].numpy()[chosen] = view[rows]
    label = tensors.pop(LABEL) if LABEL in tensors else torch.empty(0)
    return Batch(tensors, label, len(places.row), global_rows)
