"""Where a loader is: what its `state_dict` holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from farandole.errors import DatasetError
from farandole.loading.batch import Batch
from farandole.loading.order import ALGORITHM_VERSION


class LoaderState:
    """The current epoch and step of a loader, the same on every rank.

    Args:
        place: What an error names: the dataset's directory.
        digest: The content digest of what is read.
        seed: Decides the order.
        global_batch_size: Rows of one step over all ranks.
    """

    def __init__(self, place: str, digest: str, seed: int, global_batch_size: int) -> None:
        self._place, self._digest, self._global_batch_size = place, digest, global_batch_size
        self.seed = seed
        self.epoch, self.step = 0, 0

    def counted(self, batches: Iterator[Batch], steps: int) -> Iterator[Batch]:
        """The batches from here on to the end of an epoch of so many steps, each counted when it is handed out."""
        for batch in batches:
            # Before the caller has it: a state taken while it works on the batch counts the batch as used.
            self.step += 1
            if self.step >= steps:
                self.epoch, self.step = self.epoch + 1, 0
            yield batch

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and text."""
        return {
            "algorithm": ALGORITHM_VERSION,
            "digest": self._digest,
            "seed": self.seed,
            "epoch": self.epoch,
            "rows": self.step * self._global_batch_size,
            "global_batch_size": self._global_batch_size,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go to where another loader was.

        Raises:
            DatasetError: It read something else, or in another order.
        """
        digest = str(state.get("digest"))
        if digest != self._digest:
            raise DatasetError(
                f"{self._place}: the loader's state belongs to dataset {digest[:12]}, and this is {self._digest[:12]};"
                " give the loader the data that the state was saved with, or begin anew"
            )
        for name, ours in (("algorithm", ALGORITHM_VERSION), ("global_batch_size", self._global_batch_size)):
            if state.get(name) != ours:
                raise DatasetError(
                    f"{self._place}: the loader's state has {name} {state.get(name)}, and this loader {ours}, so its"
                    " order of rows is another one; use the same, or begin anew"
                )
        self.seed, self.epoch = int(state["seed"]), int(state["epoch"])
        self.step = int(state["rows"]) // self._global_batch_size
