"""Batches of tensors for one rank, in the order of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from farandole.loading.batch import Batch
from farandole.loading.buffers import ROW_IDS, columns_of
from farandole.loading.gather import RankGather, Workspace
from farandole.loading.lanes import BlockRows
from farandole.loading.loader_state import LoaderState
from farandole.loading.order import EpochOrder, Tail
from farandole.loading.prefetch import DEFAULT_READ_AHEAD, prefetch
from farandole.loading.slicing import slice_bounds
from farandole.shards import LABEL, Dataset

Transform = Callable[[dict[str, torch.Tensor], np.ndarray, int], dict[str, torch.Tensor]]
"""Changes the features of training rows: gets them, the numbers of their rows in the split (int64 `[rows]`), and the
epoch. It must work row by row, so that the result is the same for any number of ranks."""


class TrainingLoader:
    """The training split in the order of rows, shuffled anew in each epoch.

    `for batch in loader` goes through what is left of the current epoch and moves on to the next one; `state_dict`
    says, at any time, where it is.

    Args:
        dataset: The dataset.
        global_batch_size: Rows of one step over all ranks.
        rank: This rank.
        size: The number of ranks. The global batches are the same for every number.
        seed: Decides the order.
        tail: What becomes of the rows that do not fill a batch: `weight` makes a smaller batch of them, `pad` fills it
            up with zeros that `Batch.mask` marks, `drop` leaves them out (other rows in every epoch).
        pin: Use pinned memory, for copies to a GPU that do not wait.
        read_ahead: Batches that a thread makes while the caller computes; 0: no thread.
        row_ids: Give each batch the numbers of its rows in the split.
        transform: Changes the features of every batch.
        split: The split that is read.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        global_batch_size: int,
        rank: int = 0,
        size: int = 1,
        seed: int = 0,
        tail: Tail = "weight",
        pin: bool = False,
        read_ahead: int = DEFAULT_READ_AHEAD,
        row_ids: bool = False,
        transform: Transform | None = None,
        split: str = "train",
    ) -> None:
        assert 0 <= rank < size, f"rank {rank} of {size}"
        assert global_batch_size > 0, f"global_batch_size {global_batch_size}"
        self.dataset = dataset
        self._reader = dataset.split(split)
        self._position = LoaderState(str(dataset.directory), dataset.manifest.digest, seed, global_batch_size)
        self._global_batch_size = global_batch_size
        self._rank, self._size = rank, size
        self._tail, self._pin, self._depth = tail, pin, read_ahead
        self._with_row_ids, self._transform = row_ids, transform
        self._columns = columns_of(self._reader.schema, row_ids=row_ids or transform is not None)
        self._idle: list[Workspace] = []

    def order(self, epoch: int) -> EpochOrder:
        """The order of rows in an epoch."""
        reader = self._reader
        return EpochOrder(
            reader.block_rows,
            reader.schema.row_bytes,
            self._global_batch_size,
            self._tail,
            self.dataset.manifest.digest,
            self._position.seed,
            epoch,
        )

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        return self.order(0).steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of this rank in an epoch, from `first_step` on; `state_dict` knows nothing of them."""
        return prefetch(self._batches(epoch, first_step), self._depth)

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the current epoch; after its last batch, the next epoch is the current one."""
        return self._position.counted(self.epoch(self._position.epoch, self._position.step), self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, the same on every rank: the dataset's digest, the seed, the epoch, and the rows of it
        that were handed out; plain numbers and text."""
        return self._position.to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader was, of any number of ranks. The seed of the state replaces this loader's.

        Raises:
            DatasetError: The state belongs to another dataset, or to another order of its rows.
        """
        self._position.load(state)

    def reseed(self, seed: int) -> None:
        """Read in the order of another seed from now on."""
        self._position.seed = seed

    def _batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = self.order(epoch)
        pad = self._tail == "pad"
        self._reader.announce(order.blocks_in_order(first_step))
        blocks = BlockRows(self._reader, self._columns)
        with self._workspace(order) as space:
            gather = RankGather(blocks, self._columns, order, self._rank, self._size, space, pin=self._pin, pad=pad)
            full_steps, global_rows = order.full_steps, self._global_batch_size
            for step, (tensors, rows) in enumerate(gather.steps(first_step), start=first_step):
                if step == full_steps:
                    global_rows = order.batch_rows(step)
                yield self._finish(tensors, rows, global_rows, epoch)
                del tensors  # or their memory could not be used again

    @contextmanager
    def _workspace(self, order: EpochOrder) -> Iterator[Workspace]:
        """Memory to gather with: that of an earlier epoch, unless that one is still being read."""
        space = (
            self._idle.pop() if self._idle else Workspace(self._columns, order, self._rank, self._size, pin=self._pin)
        )
        try:
            yield space
        finally:
            self._idle.append(space)

    def _finish(self, tensors: dict[str, torch.Tensor], rows: int, global_rows: int, epoch: int) -> Batch:
        mask = None
        if self._tail == "pad":
            start, stop = slice_bounds(self._rank, self._size, self._global_batch_size)
            mask = torch.ones(stop - start, dtype=torch.bool)
            mask[rows:] = False
            rows = stop - start
        label = tensors.pop(LABEL) if LABEL in tensors else torch.empty(0)
        if ROW_IDS not in tensors:
            return Batch(tensors, label, rows, global_rows, mask)
        row_ids = tensors.pop(ROW_IDS).numpy()
        if self._transform is not None:
            tensors = self._transform(tensors, row_ids, epoch)
        return Batch(tensors, label, rows, global_rows, mask, row_ids if self._with_row_ids else None)
