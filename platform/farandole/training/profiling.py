"""Torch trace of a few steps of each rank, and Horovod's timeline of its negotiations and operations."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from torch.profiler import ProfilerActivity, profile

from farandole.training import world
from farandole.training.world import World

FIRST_STEP, NUM_STEPS = 5, 3
"""The first traced step, after those that warm up, and the number of traced steps."""
TIMELINE_FILE = "horovod-timeline.json"


class StepProfiler:
    """Traces some steps of the block. Writes one complete file per rank, and Horovod's timeline.

    Args:
        directory: Directory of the files.
        gang: Position of this rank.
        enabled: Whether to trace at all.
    """

    def __init__(self, directory: Path | None, gang: World, enabled: bool) -> None:
        assert directory is not None or not enabled, "a profile needs a directory"
        self._directory, self._gang, self._enabled = directory or Path(), gang, enabled
        self._steps = 0
        self._profiler: Any = None

    def __enter__(self) -> StepProfiler:
        if self._enabled:
            self._directory.mkdir(parents=True, exist_ok=True)
            if self._gang.is_rank_zero:
                world.start_timeline(self._directory / TIMELINE_FILE)
        return self

    def step(self) -> None:
        """Record a completed step."""
        if not self._enabled:
            return
        self._steps += 1
        if self._steps == FIRST_STEP:
            self._profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
            self._profiler.start()
        elif self._steps == FIRST_STEP + NUM_STEPS:
            self._finish()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()

    def _finish(self) -> None:
        """Write the traced steps; an epoch may have fewer than planned."""
        if not self._enabled:
            return
        self._enabled = False
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler.export_chrome_trace(str(self._directory / f"torch-rank-{self._gang.rank}.json"))
        if self._gang.is_rank_zero:
            world.stop_timeline()
