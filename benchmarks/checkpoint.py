"""What asynchronous checkpoints cost a training: steps with and without them, in turns, in one gang."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.loader_cases import CASES, DATASET, write_case
from benchmarks.machine import describe_machine
from farandole.errors import TrainingError
from farandole.events import EventHandler, Message, ignore_event
from farandole.launch.script import run_script

_RANK = Path(__file__).with_name("checkpoint_rank.py")


@dataclass(frozen=True)
class CheckpointBench:
    """What to measure.

    Args:
        every_steps: Steps between two checkpoints, for which the cost is told.
        hidden: The width of the two hidden layers.
        global_batch_size: Rows of a step over all workers.
        pairs: How many stretches of steps with a checkpoint, and how many without.
        workers: The number of ranks.
        directory: Where the checkpoints go: the disk that is measured. Default: the system's for temporary files.
        asynchronous: Whether a thread writes them.
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
        """Steps of the one epoch: a stretch to warm up, then pairs, then half a stretch."""
        return self.every_steps * (2 * self.pairs + 2)


def bench_checkpoint(bench: CheckpointBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Train one network on drawn rows; a checkpoint lies in the middle of every second stretch of `every_steps` steps.

    Raises:
        TrainingFailed: The gang failed.
    """
    with tempfile.TemporaryDirectory(prefix="farandole-bench-", dir=bench.directory) as scratch:
        place = Path(scratch)
        on_event(Message(f"{bench.steps} steps of {bench.workers} workers, checkpoints in {place}"))
        rows = bench.steps * bench.global_batch_size
        write_case(CASES["table"], place, rows, 1)
        request = place / "request.json"
        request.write_text(json.dumps({**asdict(bench), "dataset": str(place / DATASET), "place": str(place)}))
        _run_gang(bench.workers, request)
        ranks = [
            json.loads(request.with_name(f"{request.name}.{rank}").read_text(encoding="utf-8"))
            for rank in range(bench.workers)
        ]
    return {"machine": describe_machine(), "results": _results(bench, ranks)}


def _run_gang(workers: int, request: Path) -> None:
    with request.with_name("output.txt").open("w+", encoding="utf-8") as output:
        code = run_script(_RANK, [str(request)], workers=workers, output=output)
        output.seek(0)
        if code:
            raise TrainingError("bench: the gang failed; --debug shows what it said", detail=output.read())


def _results(bench: CheckpointBench, ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two systems: stretches with a checkpoint, and those without."""
    chief, every = ranks[0], bench.every_steps
    # By step, from 0: when it began, and the processor time of all ranks until then.
    began = chief["began_s"]
    processor = [sum(times) for times in zip(*(rank["processor_s"] for rank in ranks), strict=True)]
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(2 * bench.pairs):
        # Checkpoints come after every second multiple of `every`; stretches begin half way between two multiples.
        start = every // 2 + every * (number + 1)
        stop = start + every
        has_checkpoint = any(start < step < stop for step in chief["saved_steps"])
        found[has_checkpoint].append(
            ((began[stop] - began[start]) / every, (processor[stop] - processor[start]) / every)
        )
    wall = {key: statistics.median(value[0] for value in values) for key, values in found.items()}
    used = {key: statistics.median(value[1] for value in values) for key, values in found.items()}
    common = {
        "case": f"{chief['parameters'] / 1e6:.1f} million parameters, {bench.workers} workers",
        "version": torch.__version__,
        "global_batch_size": bench.global_batch_size,
        "peak_rss_mb": chief["peak_rss_mb"],
    }
    how = "asynchronous" if bench.asynchronous else "synchronous"
    return [
        {
            "system": name,
            "about": about,
            "step_ms": round(1e3 * wall[key], 2),
            "rows_per_s": round(bench.global_batch_size / wall[key], 1),
            "processor_ms": round(1e3 * used[key], 2),
            "stretches": len(found[key]),
            **common,
            **extra,
        }
        for key, name, about, extra in (
            (False, "no checkpoints", "stretches of steps without a checkpoint", {}),
            (
                True,
                f"every {every} steps",
                f"stretches of {every} steps with one {how} checkpoint in their middle",
                {
                    "cost": round(wall[True] / wall[False] - 1, 4),
                    "processor_cost": round(used[True] / used[False] - 1, 4),
                    "checkpoint_mb": chief["checkpoint_mb"],
                    "stalled_ms": chief["stalled_ms"],
                    "written_after_ms": chief["written_after_ms"],
                    "writer_processor_ms": chief["writer_processor_ms"],
                },
            ),
        )
    ]
