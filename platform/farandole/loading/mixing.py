"""Several datasets in one stream of batches, each with its weight."""

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
from farandole.loading.prefetch import DEFAULT_READ_AHEAD, prefetch
from farandole.shards import Dataset


class MixedLoader:
    """Training rows of several datasets; each global batch has a fixed number of rows of each.

    The numbers are the weights' shares of the batch, rounded so that they add up. Every dataset is read in its own
    order of rows and begins anew, in another order, when it ends: a small one with a great weight comes round often.
    A rank takes its slice of each dataset's rows, so the global batches are the same for every number of ranks.

    Args:
        datasets: The datasets, all of the same columns.
        weights: For each dataset a number above 0; only their ratios count.
        global_batch_size: Rows of one step over all ranks.
        rank: This rank.
        size: The number of ranks.
        seed: Decides the orders.
        steps: Steps of an epoch. Default: as many as the rows of all datasets together fill.
        pin: Use pinned memory, for copies to a GPU that do not wait.
        read_ahead: Batches that a thread makes while the caller computes; 0: no thread.
        transform: Changes the features of every batch; is told the rows' numbers in their own dataset, and its epoch.

    Raises:
        DatasetError: The datasets do not fit together, or one is too small, or gets no row of a batch.
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
        _check(datasets, weights)
        self.rows_of = shares(weights, global_batch_size)
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
            for dataset, rows in zip(datasets, _enough(datasets, self.rows_of), strict=True)
        ]
        self._global_batch_size, self._depth, self._pin = global_batch_size, read_ahead, pin
        total = sum(dataset.manifest.rows("train") for dataset in datasets)
        self.steps = max(1, total // global_batch_size) if steps is None else steps
        identity = json.dumps([[dataset.manifest.digest for dataset in datasets], self.rows_of, self.steps])
        place = ", ".join(str(dataset.directory) for dataset in datasets)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        self._position = LoaderState(place, digest, seed, global_batch_size)

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of this rank in an epoch, from `first_step` on; `state_dict` knows nothing of them."""

        def batches() -> Iterator[Batch]:
            parts = [_endless(loader, epoch * self.steps + first_step) for loader in self._loaders]
            for _ in range(first_step, self.steps):
                yield self._joined([next(part) for part in parts])

        return prefetch(batches(), self._depth)

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the current epoch; after its last batch, the next epoch is the current one."""
        return self._position.counted(self.epoch(self._position.epoch, self._position.step), self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, the same on every rank."""
        return self._position.to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader of the same datasets and weights was, of any number of ranks.

        Raises:
            DatasetError: The state belongs to other datasets or weights.
        """
        self._position.load(state)
        for loader in self._loaders:
            loader.reseed(self._position.seed)

    def _joined(self, parts: list[Batch]) -> Batch:
        features = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
        label = torch.cat([part.label for part in parts])
        if self._pin:
            features = {name: tensor.pin_memory() for name, tensor in features.items()}
            label = label.pin_memory()
        return Batch(features, label, sum(part.rows for part in parts), self._global_batch_size)


def shares(weights: Sequence[float], rows: int) -> list[int]:
    """Whole numbers in the ratio of the weights that add up to `rows`: each share rounded down, and the rows that are
    left to the largest remainders (Hamilton's method), the first of equal ones first."""
    total = math.fsum(weights)
    exact = [rows * weight / total for weight in weights]
    rounded = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: (rounded[index] - exact[index], index))
    for index in by_remainder[: rows - sum(rounded)]:
        rounded[index] += 1
    return rounded


def _check(datasets: Sequence[Dataset], weights: Sequence[float]) -> None:
    if not datasets or len(datasets) != len(weights):
        raise DatasetError(f"{len(datasets)} datasets and {len(weights)} weights; give each dataset one weight")
    for dataset, weight in zip(datasets, weights, strict=True):
        if not (math.isfinite(weight) and weight > 0):
            raise DatasetError(f"{dataset.directory}: weight {weight}; a weight is a number above 0")
    first = datasets[0]
    known: dict[str, Dataset] = {}
    for dataset in datasets:
        if dataset.manifest.columns != first.manifest.columns:
            raise DatasetError(
                f"{dataset.directory}: other columns than {first.directory} has (`farandole data diff` shows them);"
                " mix datasets that were prepared with the same features"
            )
        twin = known.setdefault(dataset.manifest.digest, dataset)
        if twin is not dataset:
            raise DatasetError(
                f"{dataset.directory}: the same content as {twin.directory}; give it once, with the sum of the weights"
            )


def _enough(datasets: Sequence[Dataset], rows_of: list[int]) -> list[int]:
    """The rows of each dataset in a batch, each at least one, and no more than it has."""
    for dataset, rows in zip(datasets, rows_of, strict=True):
        have = dataset.manifest.rows("train")
        if not 1 <= rows <= have:
            raise DatasetError(
                f"{dataset.directory}: its weight gives it {rows} rows of each batch, of {have} training rows; it needs"
                " at least one, and has to fill its part of a batch: change the weights or the global batch size"
            )
    return rows_of


def _endless(loader: TrainingLoader, step: int) -> Iterator[Batch]:
    """A dataset's batches from a step on, counted over all its epochs."""
    epoch, first_step = divmod(step, loader.steps)
    while True:
        yield from loader.epoch(epoch, first_step)
        epoch, first_step = epoch + 1, 0
