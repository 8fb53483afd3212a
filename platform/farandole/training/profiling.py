"""A torch trace of a few steps of each rank, and Horovod's timeline of what the ranks agree on and sum."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from torch.profiler import ProfilerActivity, profile

from farandole.training import world
from farandole.training.world import World

FIRST_STEP, STEPS = 5, 3
"""The steps before, which warm up, and the steps of the trace."""
TIMELINE = "horovod-timeline.json"


class StepProfiler:
    """Traces some steps while the block runs; the files appear whole, one for each rank and one of Horovod's.

    Args:
        directory: Where the files are written.
        gang: Which rank this is.
        wanted: Whether to trace at all.
    """

    def __init__(self, directory: Path | None, gang: World, wanted: bool) -> None:
        assert directory is not None or not wanted, "a profile needs a directory"
        self._directory, self._gang, self._wanted = directory or Path(), gang, wanted
        self._steps = 0
        self._profiler: Any = None

    def __enter__(self) -> StepProfiler:
        if self._wanted:
            self._directory.mkdir(parents=True, exist_ok=True)
            if self._gang.is_rank_zero:
                world.start_timeline(self._directory / TIMELINE)
        return self

    def step(self) -> None:
        """A step is done."""
        if not self._wanted:
            return
        self._steps += 1
        if self._steps == FIRST_STEP:
            self._profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
            self._profiler.start()
        elif self._steps == FIRST_STEP + STEPS:
            self._end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Write what there is; an epoch may have fewer steps."""
        if not self._wanted:
            return
        self._wanted = False
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler.export_chrome_trace(str(self._directory / f"torch-rank-{self._gang.rank}.json"))
        if self._gang.is_rank_zero:
            world.stop_timeline()
