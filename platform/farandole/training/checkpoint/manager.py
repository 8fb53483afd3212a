"""Which checkpoints there are, which one to go on from, and which to keep."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farandole.training.checkpoint.backends import CheckpointBackend
from farandole.training.checkpoint.format import DamagedCheckpointError
from farandole.training.checkpoint.identity import list_differences, summarize


@dataclass(frozen=True)
class BestMetric:
    """What makes one checkpoint better than another.

    Args:
        metric: A validation metric.
        lowest: Whether the lowest value is the best.
    """

    metric: str
    lowest: bool


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that was read.

    Args:
        name: Its name.
        meta: What it says of itself: `step`, `epoch` (epochs done), `workers`, `versions`, `metrics` and so on.
        state: The state.
    """

    name: str
    meta: dict[str, Any]
    state: dict[str, Any]


class CheckpointManager:
    """The checkpoints of one training, in a store where there may be others of another training.

    Args:
        store: Where they lie.
        identity: What they belong to: nested mappings of plain values.
        keep: How many of the newest are kept.
        keep_best: How many of the best are kept besides.
        best: What makes one better; None: nothing does.
    """

    def __init__(
        self, store: CheckpointBackend, identity: Any, *, keep: int, keep_best: int = 0, best: BestMetric | None = None
    ) -> None:
        self._store, self._identity = store, identity
        self._keep, self._keep_best, self._best = keep, keep_best, best
        self._ours: dict[str, dict[str, Any]] | None = None

    @property
    def shown(self) -> str:
        """The place, as messages call it."""
        return self._store.shown("")

    def tidy(self) -> None:
        """Remove what a writer that was killed left half-made."""
        self._store.tidy()

    def newest(
        self, warn: Callable[[str], None], misfit: Callable[[dict[str, Any]], str | None]
    ) -> LoadedCheckpoint | None:
        """The newest whole checkpoint of this training. Each that is passed over is named, and why.

        Args:
            warn: Is told.
            misfit: Why a state does not fit the model, or None where it fits.
        """
        chosen: LoadedCheckpoint | None = None
        self._ours = {}
        for name in self._store.names():
            try:
                meta = self._store.meta(name)
                differing = list_differences(meta["identity"], self._identity)
                if differing and chosen is None:
                    raise DamagedCheckpointError(
                        f"belongs to another dataset, model or way of training ({summarize(differing)})"
                    )
                if differing:
                    continue
                if chosen is None:
                    state = self._store.state(name, meta)
                    reason = misfit(state)
                    if reason is not None:
                        raise DamagedCheckpointError(f"belongs to another model ({reason})")
                    chosen = LoadedCheckpoint(name, meta, state)
            except DamagedCheckpointError as problem:
                if chosen is None:
                    warn(f"{self._store.shown(name)}: {problem}; it is passed over")
                continue
            self._ours[name] = meta
        return chosen

    def put(self, state: dict[str, Any], meta: dict[str, Any]) -> str:
        """Write a checkpoint, then remove those that need not be kept. Returns its name.

        What was passed over as damaged, or belongs to another training, neither counts nor is removed.

        Raises:
            OSError: The disk is full, or does not take it.
            StorageFailed: The object store does not answer.
            StorageRefused: The object store will not take it.
        """
        ours = self._known()
        meta = {**meta, "identity": self._identity, "saved_at_s": time.time()}
        name = self._store.put(state, meta)
        replaced = [old for old, known in ours.items() if known["step"] == meta["step"]]
        others = {old: known for old, known in ours.items() if old not in replaced}
        # The last one first, whatever its step: steps fall back where newer ones are damaged.
        self._ours = ours = {name: meta, **others}
        for old in [*replaced, *expired_checkpoints(ours, self._keep, self._keep_best, self._best)]:
            self._store.remove(old)
            ours.pop(old, None)
        return name

    def _known(self) -> dict[str, dict[str, Any]]:
        if self._ours is None:
            self.newest(lambda text: None, lambda state: None)
        assert self._ours is not None
        return self._ours


def expired_checkpoints(
    ours: dict[str, dict[str, Any]], keep: int, keep_best: int, best: BestMetric | None
) -> list[str]:
    """The checkpoints that need not be kept: neither among the newest nor among the best.

    Args:
        ours: Name to what it says of itself, newest first.
        keep: How many of the newest are kept.
        keep_best: How many of the best are kept.
        best: What makes one better. A checkpoint without the metric, or where it is not a number, is not among them.
    """
    kept = set(list(ours)[:keep])
    if best is not None:
        values = {name: (meta.get("metrics") or {}).get(best.metric, math.nan) for name, meta in ours.items()}
        measured = [name for name, value in values.items() if not math.isnan(value)]
        # Sorting is stable: of equal ones the newest is the better.
        kept |= set(sorted(measured, key=lambda name: values[name] if best.lowest else -values[name])[:keep_best])
    return [name for name in ours if name not in kept]
