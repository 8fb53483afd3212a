"""Loaders that mix rows: of several datasets by weight, and of two splits in equal parts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from farandole.errors import DatasetError
from farandole.loading.batch import Batch
from farandole.loading.loader import TrainingLoader, Transform
from farandole.loading.loader_state import LoaderState
from farandole.loading.order import Tail
from farandole.loading.prefetch import DEFAULT_READ_AHEAD, prefetch
from farandole.shards import Dataset


class MixedLoader:
    """Training rows of several datasets, with a fixed number of rows of each dataset in every global batch.

    The numbers are the weights' shares of the batch, rounded so that they add up to it. Every dataset is read in its
    own order of rows and is reshuffled when it ends, so a small dataset with a large weight repeats often. A rank takes
    its slice of each dataset's rows, so the global batches are the same for every number of ranks.

    Args:
        datasets: The datasets, all with the same columns.
        weights: One number above 0 per dataset; only their ratios matter.
        global_batch_size: Rows of one step over all ranks.
        rank: This rank.
        size: The number of ranks.
        seed: Seed of the row orders.
        steps: Steps of an epoch. Default: the number of batches that the rows of all datasets fill.
        pin: Whether to use pinned memory, which makes copies to a GPU asynchronous.
        read_ahead: Number of batches that a background thread prepares; 0 starts no thread.
        transform: Changes the features of every batch; it receives row numbers and the epoch of the rows' own dataset.

    Raises:
        DatasetError: The datasets do not match, one is too small, or one gets no row of a batch.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        weights: Sequence[float],
        *,
        global_batch_size: int,
        rank: int = 0,
        size: int = 1,
        seed: int = 0,
        steps: int | None = None,
        pin: bool = False,
        read_ahead: int = DEFAULT_READ_AHEAD,
        transform: Transform | None = None,
    ) -> None:
        _check_datasets(datasets, weights)
        self.rows_per_dataset = apportion(weights, global_batch_size)
        _check_sizes(datasets, self.rows_per_dataset)
        self._loaders = [
            TrainingLoader(
                dataset,
                global_batch_size=rows,
                rank=rank,
                size=size,
                seed=seed,
                tail="drop",
                read_ahead=0,
                transform=transform,
            )
            for dataset, rows in zip(datasets, self.rows_per_dataset, strict=True)
        ]
        self._global_batch_size, self._depth, self._pin = global_batch_size, read_ahead, pin
        total = sum(dataset.manifest.rows("train") for dataset in datasets)
        self.steps = max(1, total // global_batch_size) if steps is None else steps
        identity = json.dumps([[dataset.manifest.digest for dataset in datasets], self.rows_per_dataset, self.steps])
        locations = ", ".join(str(dataset.directory) for dataset in datasets)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        self._state = LoaderState(locations, digest, seed, global_batch_size)

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's batches of any epoch from `first_step` on, without changing `state_dict`."""

        def batches() -> Iterator[Batch]:
            parts = [_repeat_epochs(loader, epoch * self.steps + first_step) for loader in self._loaders]
            for _ in range(first_step, self.steps):
                yield _concatenate([next(part) for part in parts], pin=self._pin)

        return prefetch(batches(), self._depth)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the rest of the current epoch; the next epoch becomes current after its last batch."""
        return self._state.track(self.epoch(self._state.epoch, self._state.step), self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, which is the same on every rank."""
        return self._state.to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where another loader of the same datasets and weights was, for any number of ranks.

        Raises:
            DatasetError: The state belongs to other datasets or weights.
        """
        self._state.load(state)
        for loader in self._loaders:
            loader.reseed(self._state.seed)


class JoinedLoader:
    """All rows of a split, and in each batch as many rows of the training split.

    Both are read in their own order of rows; the training split continues from one epoch to the next. The last batch of
    an epoch has fewer rows of the split. Global batches are the same for every number of ranks.

    Args:
        dataset: The dataset.
        split: The split whose rows an epoch consists of.
        global_batch_size: Rows of one step over all ranks, half of them of each split; 1 counts as 2.
        rank: This rank.
        size: The number of ranks.
        seed: Seed of the row orders.
        pin: Whether to use pinned memory, which makes copies to a GPU asynchronous.
        read_ahead: Number of batches that a background thread prepares; 0 starts no thread.
        transform: Changes the features of every batch; it receives row numbers and the epoch of the rows' own split.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        global_batch_size: int,
        rank: int = 0,
        size: int = 1,
        seed: int = 0,
        pin: bool = False,
        read_ahead: int = DEFAULT_READ_AHEAD,
        transform: Transform | None = None,
    ) -> None:
        half = max(global_batch_size // 2, 1)

        def loader(name: str, rows: int, tail: Tail) -> TrainingLoader:
            options: dict[str, Any] = {"rank": rank, "size": size, "seed": seed, "transform": transform}
            return TrainingLoader(dataset, global_batch_size=rows, tail=tail, read_ahead=0, split=name, **options)

        self._added = loader(split, half, "weight")
        self._added_rows, self._trained_rows = dataset.manifest.rows(split), min(half, dataset.manifest.rows("train"))
        self._trained = loader("train", self._trained_rows, "drop")
        self._pin, self._depth = pin, read_ahead
        self.steps = self._added.steps

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self.steps

    @property
    def rows(self) -> int:
        """Rows of an epoch, of both splits."""
        return self._added_rows + self.steps * self._trained_rows

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Iterate over this rank's batches of an epoch."""

        def batches() -> Iterator[Batch]:
            trained = _repeat_epochs(self._trained, epoch * self.steps)
            for added in self._added.epoch(epoch):
                yield _concatenate([added, next(trained)], pin=self._pin)

        return prefetch(batches(), self._depth)


def _concatenate(parts: list[Batch], *, pin: bool) -> Batch:
    """Make one batch of several."""
    features = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
    label = torch.cat([part.label for part in parts])
    if pin:
        features = {name: tensor.pin_memory() for name, tensor in features.items()}
        label = label.pin_memory()
    return Batch(features, label, sum(part.rows for part in parts), sum(part.global_rows for part in parts))


def apportion(weights: Sequence[float], rows: int) -> list[int]:
    """Divide `rows` in the ratio of the weights, by Hamilton's method.

    Each share is rounded down; the remaining rows go to the largest remainders, and among equal ones to the first.
    """
    total = math.fsum(weights)
    exact = [rows * weight / total for weight in weights]
    rounded = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: (rounded[index] - exact[index], index))
    for index in by_remainder[: rows - sum(rounded)]:
        rounded[index] += 1
    return rounded


def _check_datasets(datasets: Sequence[Dataset], weights: Sequence[float]) -> None:
    """Check that weights are valid, columns are equal, and no dataset is given twice."""
    if not datasets or len(datasets) != len(weights):
        raise DatasetError(f"{len(datasets)} datasets and {len(weights)} weights; give each dataset one weight")
    for dataset, weight in zip(datasets, weights, strict=True):
        if not (math.isfinite(weight) and weight > 0):
            raise DatasetError(f"{dataset.directory}: weight {weight}; a weight must be a number above 0")
    first = datasets[0]
    by_digest: dict[str, Dataset] = {}
    for dataset in datasets:
        if dataset.manifest.columns != first.manifest.columns:
            raise DatasetError(
                f"{dataset.directory}: its columns differ from those of {first.directory} (`farandole data diff` lists"
                " the differences); mix datasets that were prepared with the same features"
            )
        twin = by_digest.setdefault(dataset.manifest.digest, dataset)
        if twin is not dataset:
            raise DatasetError(
                f"{dataset.directory}: it has the same content as {twin.directory}; pass it once, with the sum of the"
                " weights"
            )


def _check_sizes(datasets: Sequence[Dataset], rows_per_dataset: list[int]) -> None:
    """Check that each dataset contributes at least one row to a batch, and no more rows than it has."""
    for dataset, rows in zip(datasets, rows_per_dataset, strict=True):
        available = dataset.manifest.rows("train")
        if not 1 <= rows <= available:
            raise DatasetError(
                f"{dataset.directory}: its weight gives it {rows} rows of each batch, but it has {available} training"
                " rows; it must contribute at least one row and at most all of them: change the weights or the global"
                " batch size"
            )


def _repeat_epochs(loader: TrainingLoader, step: int) -> Iterator[Batch]:
    """Yield a dataset's batches without end, from a step on that is counted over all its epochs."""
    epoch, first_step = divmod(step, loader.steps)
    while True:
        yield from loader.epoch(epoch, first_step)
        epoch, first_step = epoch + 1, 0
