"""Checkpoint benchmark: steps with and without asynchronous checkpoints, in turn, in one gang."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.loader.cases import CASES, DATASET, write_case
from benchmarks.machine import describe_machine, repository_on_python_path
from farandole.errors import TrainingError
from farandole.events import EventHandler, Message, ignore_event
from farandole.launch.script import run_script

_RANK = Path(__file__).with_name("rank.py")


@dataclass(frozen=True)
class CheckpointBench:
    """Options of the checkpoint benchmark.

    Args:
        every_steps: Steps between two checkpoints, for which the cost is reported.
        hidden: Width of the two hidden layers.
        global_batch_size: Rows of a step over all workers.
        pairs: Number of stretches of steps with a checkpoint, and of those without.
        workers: Number of ranks.
        directory: Directory of the checkpoints, on the disk to measure. Default: that of temporary files.
        asynchronous: Whether a thread writes the checkpoints.
    """

    every_steps: int = 50
    hidden: int = 3_150
    global_batch_size: int = 256
    pairs: int = 5
    workers: int = 2
    directory: str | None = None
    asynchronous: bool = True

    @property
    def steps(self) -> int:
        """Steps of the one epoch: a stretch of warm-up, then the pairs, then half a stretch."""
        return self.every_steps * (2 * self.pairs + 2)


def bench_checkpoint(bench: CheckpointBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Train one network on random rows; every second stretch of `every_steps` steps has a checkpoint in its middle.

    Raises:
        TrainingError: The gang failed.
    """
    with tempfile.TemporaryDirectory(prefix="farandole-benchmark-", dir=bench.directory) as scratch:
        directory = Path(scratch)
        on_event(Message(f"{bench.steps} steps of {bench.workers} workers, checkpoints in {directory}"))
        rows = bench.steps * bench.global_batch_size
        write_case(CASES["table"], directory, rows, 1)
        request = directory / "request.json"
        request.write_text(
            json.dumps({**asdict(bench), "dataset": str(directory / DATASET), "scratch": str(directory)})
        )
        _run_gang(bench.workers, request)
        ranks = [
            json.loads(request.with_name(f"{request.name}.{rank}").read_text(encoding="utf-8"))
            for rank in range(bench.workers)
        ]
    return {"machine": describe_machine(), "results": _results(bench, ranks)}


def _run_gang(workers: int, request: Path) -> None:
    with request.with_name("output.txt").open("w+", encoding="utf-8") as output:
        with repository_on_python_path():
            code = run_script(_RANK, [str(request)], workers=workers, output=output)
        output.seek(0)
        if code:
            raise TrainingError("checkpoint: the gang failed", detail=output.read())


def _results(bench: CheckpointBench, ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of two systems: stretches with a checkpoint, and those without."""
    rank_zero, every = ranks[0], bench.every_steps
    # By step, from 0: its start, and the processor time of all ranks until then.
    started = rank_zero["started_s"]
    processor = [sum(times) for times in zip(*(rank["processor_s"] for rank in ranks), strict=True)]
    stretches: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(2 * bench.pairs):
        # Checkpoints follow every second multiple of `every`; stretches start halfway between two multiples.
        start = every // 2 + every * (number + 1)
        stop = start + every
        has_checkpoint = any(start < step < stop for step in rank_zero["saved_steps"])
        stretches[has_checkpoint].append(
            ((started[stop] - started[start]) / every, (processor[stop] - processor[start]) / every)
        )
    wall = {key: statistics.median(value[0] for value in values) for key, values in stretches.items()}
    used = {key: statistics.median(value[1] for value in values) for key, values in stretches.items()}
    common = {
        "case": f"{rank_zero['parameters'] / 1e6:.1f} million parameters, {bench.workers} workers",
        "version": torch.__version__,
        "global_batch_size": bench.global_batch_size,
        "peak_rss_mb": rank_zero["peak_rss_mb"],
    }
    mode = "asynchronous" if bench.asynchronous else "synchronous"
    return [
        {
            "system": name,
            "about": about,
            "step_ms": round(1e3 * wall[key], 2),
            "rows_per_s": round(bench.global_batch_size / wall[key], 1),
            "processor_ms": round(1e3 * used[key], 2),
            "stretches": len(stretches[key]),
            **common,
            **extra,
        }
        for key, name, about, extra in (
            (False, "no checkpoints", "stretches of steps without a checkpoint", {}),
            (
                True,
                f"every {every} steps",
                f"stretches of {every} steps with one {mode} checkpoint in their middle",
                {
                    "cost": round(wall[True] / wall[False] - 1, 4),
                    "processor_cost": round(used[True] / used[False] - 1, 4),
                    "checkpoint_mb": rank_zero["checkpoint_mb"],
                    "stalled_ms": rank_zero["stalled_ms"],
                    "written_after_ms": rank_zero["written_after_ms"],
                    "writer_processor_ms": rank_zero["writer_processor_ms"],
                },
            ),
        )
    ]
