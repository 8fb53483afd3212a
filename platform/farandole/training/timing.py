"""Where the time of each rank goes, and which rank holds the others up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch

from farandole.training import world

_COSTLY, _COSTLY_S = 0.1, 1.0
"""A rank is named when waiting for it costs the others more than this share of their time, and so many seconds."""


@dataclass
class TimeSplit:
    """Where a rank's time went, in seconds."""

    data_wait_s: float = 0.0
    compute_s: float = 0.0
    all_reduce_wait_s: float = 0.0
    evaluate_s: float = 0.0
    checkpoint_s: float = 0.0

    @contextmanager
    def spent_on(self, part: str) -> Iterator[None]:
        """Add the time of the block to one part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - start)

    def add(self, part: str, seconds: float) -> None:
        """Add so much to one part."""
        setattr(self, f"{part}_s", getattr(self, f"{part}_s") + seconds)

    def since(self, before: TimeSplit) -> TimeSplit:
        """What was added since."""
        return TimeSplit(*(ours - theirs for ours, theirs in zip(self.seconds, before.seconds, strict=True)))

    @property
    def seconds(self) -> list[float]:
        """All parts."""
        return [getattr(self, part.name) for part in fields(self)]

    @property
    def training_s(self) -> float:
        """The time of the steps alone."""
        return self.data_wait_s + self.compute_s + self.all_reduce_wait_s

    def rounded(self) -> dict[str, float]:
        """By name, to the millisecond."""
        return {part.name: round(getattr(self, part.name), 3) for part in fields(self)}


def gather_time_splits(
    split: TimeSplit, name: str, extra: tuple[float, ...] = ()
) -> tuple[list[TimeSplit], list[float]]:
    """The time of every rank, and the sums of some more numbers, in one exchange."""
    own = torch.tensor([[*split.seconds, *extra]], dtype=torch.float64)
    rows = world.all_gather_rows(own, name)
    parts = len(split.seconds)
    return [TimeSplit(*row[:parts].tolist()) for row in rows], rows[:, parts:].sum(0).tolist()


def step_time_metrics(splits: list[TimeSplit], steps: int) -> dict[str, float]:
    """Milliseconds of a step, by rank, as metrics."""
    return {
        f"time.rank_{rank}.{part.name.removesuffix('_s')}_ms": getattr(split, part.name) / steps * 1e3
        for rank, split in enumerate(splits)
        for part in fields(split)
        if part.name not in ("evaluate_s",)
    }


def find_straggler(splits: list[TimeSplit]) -> dict[str, Any] | None:
    """The rank that the others wait for, if that costs them more than a second, and a tenth of their time.

    Returns: `{"rank", "excess_s", "share"}`: by how much its computing is longer than the median of the others,
    and the share of its time of training that this is."""
    if len(splits) < 2:
        return None
    slowest = max(range(len(splits)), key=lambda rank: splits[rank].compute_s)
    others = [split.compute_s for rank, split in enumerate(splits) if rank != slowest]
    excess_s = splits[slowest].compute_s - statistics.median(others)
    share = excess_s / max(splits[slowest].training_s, 1e-9)
    if share <= _COSTLY or excess_s < _COSTLY_S:
        return None
    return {"rank": slowest, "excess_s": round(excess_s, 3), "share": round(share, 3)}
