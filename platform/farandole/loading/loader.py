"""The training loader: batches of tensors for one rank, in the order of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from farandole.loading.batch import Batch
from farandole.loading.buffers import ROW_IDS, batch_columns
from farandole.loading.gather import RankGather, Workspace
from farandole.loading.lanes import BlockRows
from farandole.loading.loader_state import LoaderState
from farandole.loading.order import EpochOrder, Tail
from farandole.loading.prefetch import DEFAULT_READ_AHEAD, prefetch
from farandole.loading.slicing import slice_bounds
from farandole.shards import LABEL, Dataset

Transform = Callable[[dict[str, torch.Tensor], np.ndarray, int], dict[str, torch.Tensor]]
"""Function of features, row numbers within the split (int64 `[rows]`) and the epoch that returns changed features. It
must treat each row by itself, so that the result is the same for any number of ranks."""


class TrainingLoader:
    """The training split in the order of rows, shuffled differently in each epoch.

    `for batch in loader` iterates over the rest of the current epoch and then advances to the next one; `state_dict`
    returns the current position at any time.

    Args:
        dataset: The dataset.
        global_batch_size: Rows of one step over all ranks.
        rank: This rank.
        size: The number of ranks. The global batches are the same for every number.
        seed: Seed of the row order.
        tail: Treatment of the rows that do not fill a batch: `weight` makes a smaller batch of them, `pad` fills the
            batch with zeros that `Batch.mask` marks, `drop` leaves them out (different rows in every epoch).
        pin: Whether to use pinned memory, which makes copies to a GPU asynchronous.
        read_ahead: Number of batches that a background thread prepares; 0 starts no thread.
        row_ids: Whether each batch carries its row numbers within the split.
        transform: Changes the features of every batch.
        split: The split to read.
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
        self._state = LoaderState(str(dataset.directory), dataset.manifest.digest, seed, global_batch_size)
        self._global_batch_size = global_batch_size
        self._rank, self._size = rank, size
        self._tail, self._pin, self._depth = tail, pin, read_ahead
        self._with_row_ids, self._transform = row_ids, transform
        self._columns = batch_columns(self._reader.schema, row_ids=row_ids or transform is not None)
        self._idle_workspaces: list[Workspace] = []

    def order(self, epoch: int) -> EpochOrder:
        """Return the order of rows in an epoch."""
        reader = self._reader
        return EpochOrder(
            reader.block_rows,
            reader.schema.row_bytes,
            self._global_batch_size,
            self._tail,
            self.dataset.manifest.digest,
            self._state.seed,
            epoch,
        )

    @property
    def steps(self) -> int:
        """Number of steps of an epoch, the same on all ranks."""
        return self.order(0).steps

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's batches of any epoch from `first_step` on, without changing `state_dict`."""
        return prefetch(self._batches(epoch, first_step), self._depth)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the rest of the current epoch; the next epoch becomes current after its last batch."""
        return self._state.track(self.epoch(self._state.epoch, self._state.step), self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, which is the same on every rank, as plain numbers and strings.

        It holds the dataset's digest, the seed, the epoch, and the number of the epoch's rows that were yielded.
        """
        return self._state.to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where another loader was, for any number of ranks. The state's seed replaces this loader's.

        Raises:
            DatasetError: The state belongs to another dataset or to another order of its rows.
        """
        self._state.load(state)

    def reseed(self, seed: int) -> None:
        """Use the row order of another seed from now on."""
        self._state.seed = seed

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
                yield self._make_batch(tensors, rows, global_rows, epoch)
                del tensors  # frees their memory for reuse

    @contextmanager
    def _workspace(self, order: EpochOrder) -> Iterator[Workspace]:
        """Lend scratch memory: that of an earlier epoch, unless another iteration uses it."""
        space = (
            self._idle_workspaces.pop()
            if self._idle_workspaces
            else Workspace(self._columns, order, self._rank, self._size, pin=self._pin)
        )
        try:
            yield space
        finally:
            self._idle_workspaces.append(space)

    def _make_batch(self, tensors: dict[str, torch.Tensor], rows: int, global_rows: int, epoch: int) -> Batch:
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
