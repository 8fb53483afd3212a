"""Time split of each rank, and the rank that slows the others down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch

from farandole.training import world

_MIN_SHARE, _MIN_EXCESS_S = 0.1, 1.0
"""A straggler is reported if it costs the others more than this share of their time, and more than these seconds."""


@dataclass
class TimeSplit:
    """Time of a rank by activity, in seconds."""

    data_wait_s: float = 0.0
    compute_s: float = 0.0
    all_reduce_wait_s: float = 0.0
    evaluate_s: float = 0.0
    checkpoint_s: float = 0.0

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Add the duration of the block to one activity."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(activity, time.perf_counter() - start)

    def add(self, activity: str, seconds: float) -> None:
        """Add seconds to one activity."""
        setattr(self, f"{activity}_s", getattr(self, f"{activity}_s") + seconds)

    def since(self, before: TimeSplit) -> TimeSplit:
        """Return the difference to an earlier copy."""
        return TimeSplit(*(now - then for now, then in zip(self.seconds, before.seconds, strict=True)))

    def copy(self) -> TimeSplit:
        """Return a copy."""
        return TimeSplit(*self.seconds)

    @property
    def seconds(self) -> list[float]:
        """Seconds of all activities, in the order of the fields."""
        return [getattr(self, activity.name) for activity in fields(self)]

    @property
    def training_s(self) -> float:
        """Time of the steps alone."""
        return self.data_wait_s + self.compute_s + self.all_reduce_wait_s

    def rounded(self) -> dict[str, float]:
        """Return seconds by field name, rounded to milliseconds."""
        return {activity.name: round(getattr(self, activity.name), 3) for activity in fields(self)}


def gather_time_splits(
    split: TimeSplit, name: str, extra: tuple[float, ...] = ()
) -> tuple[list[TimeSplit], list[float]]:
    """Gather the time splits of all ranks and sum some more numbers, in one exchange.

    Args:
        split: Time split of this rank.
        name: Name of the operation.
        extra: Numbers of this rank.

    Returns:
        The time splits by rank, and the sums of `extra` over all ranks.
    """
    own = torch.tensor([[*split.seconds, *extra]], dtype=torch.float64)
    rows = world.all_gather_rows(own, name)
    count = len(split.seconds)
    return [TimeSplit(*row[:count].tolist()) for row in rows], rows[:, count:].sum(0).tolist()


def step_time_metrics(splits: list[TimeSplit], steps: int) -> dict[str, float]:
    """Return the milliseconds per step and activity of each rank, as metrics."""
    return {
        f"system/rank_{rank}/{activity.name.removesuffix('_s')}_ms": getattr(split, activity.name) / steps * 1e3
        for rank, split in enumerate(splits)
        for activity in fields(split)
        if activity.name != "evaluate_s"
    }


def find_straggler(splits: list[TimeSplit]) -> dict[str, Any] | None:
    """Find the rank that the others wait for, if that costs more than a second and a tenth of their time.

    Returns:
        `{"rank", "excess_s", "share"}`: by how much its compute time exceeds the median of the others, and which share
        of its training time that is. None if no rank stands out.
    """
    if len(splits) < 2:
        return None
    slowest = max(range(len(splits)), key=lambda rank: splits[rank].compute_s)
    others = [split.compute_s for rank, split in enumerate(splits) if rank != slowest]
    excess_s = splits[slowest].compute_s - statistics.median(others)
    share = excess_s / max(splits[slowest].training_s, 1e-9)
    if share <= _MIN_SHARE or excess_s < _MIN_EXCESS_S:
        return None
    return {"rank": slowest, "excess_s": round(excess_s, 3), "share": round(share, 3)}
