"""The position of a loader, and its `state_dict`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from farandole.errors import DatasetError
from farandole.loading.batch import Batch
from farandole.loading.order import ALGORITHM_VERSION


class LoaderState:
    """The current epoch and step of a loader, identical on every rank.

    Args:
        location: The dataset directory, named in errors.
        digest: Content digest of the data.
        seed: Seed of the row order.
        global_batch_size: Rows of one step over all ranks.
    """

    def __init__(self, location: str, digest: str, seed: int, global_batch_size: int) -> None:
        self._location, self._digest, self._global_batch_size = location, digest, global_batch_size
        self.seed = seed
        self.epoch, self.step = 0, 0

    def track(self, batches: Iterator[Batch], steps: int) -> Iterator[Batch]:
        """Yield the remaining batches of an epoch of `steps` steps and count each one."""
        for batch in batches:
            # Counted before the caller receives it: a state saved while the caller uses the batch includes it.
            self.step += 1
            if self.step >= steps:
                self.epoch, self.step = self.epoch + 1, 0
            yield batch

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers and strings."""
        return {
            "algorithm": ALGORITHM_VERSION,
            "digest": self._digest,
            "seed": self.seed,
            "epoch": self.epoch,
            "rows": self.step * self._global_batch_size,
            "global_batch_size": self._global_batch_size,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore the position that another loader saved.

        Raises:
            DatasetError: The other loader read different data, or the same data in another order.
        """
        digest = str(state.get("digest"))
        if digest != self._digest:
            raise DatasetError(
                f"{self._location}: the loader state was saved for dataset {digest[:12]}, but this dataset is"
                f" {self._digest[:12]}; use the dataset that the state was saved with, or start from the beginning"
            )
        for name, expected in (("algorithm", ALGORITHM_VERSION), ("global_batch_size", self._global_batch_size)):
            if state.get(name) != expected:
                raise DatasetError(
                    f"{self._location}: the loader state has {name} {state.get(name)}, but this loader has {expected},"
                    " so the order of rows differs; use the same value, or start from the beginning"
                )
        self.seed, self.epoch = int(state["seed"]), int(state["epoch"])
        self.step = int(state["rows"]) // self._global_batch_size
