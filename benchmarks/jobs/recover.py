"""Recovery benchmark: random workers of a training are killed, and the training is observed from outside."""

from __future__ import annotations

import os
import random
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.jobs.observed_training import ObservedTraining, observed_training
from benchmarks.machine import describe_machine
from farandole.errors import SpecError
from farandole.events import EventHandler, Message, StageEnded, StageStarted, ignore_event
from farandole.spec import Job


@dataclass(frozen=True)
class RecoverBench:
    """Options of the recovery benchmark.

    Args:
        job: The job to train; its dataset must be prepared, and the training must last longer than the kills take.
        kills: Number of workers to kill, one after the other.
        within_s: Maximum seconds from a first step to the next kill.
        seed: Seed of the random moments and ranks.
    """

    job: Job
    kills: int = 20
    within_s: float = 5.0
    seed: int = 0


def bench_recover(bench: RecoverBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Train undisturbed and with kills, and return the result document.

    It holds the seconds from each `kill -9` to the next step, and whether the final weights are bit-identical.

    Args:
        bench: The options.
        on_event: Receives an event for each step.

    Raises:
        SpecError: The training ended before all kills were done.
        TrainingError: One of the trainings failed.
    """
    resources = bench.job.resources.model_copy(update={"max_restarts": bench.kills})
    job = bench.job.model_copy(update={"resources": resources})
    with tempfile.TemporaryDirectory(prefix="farandole-recover-") as folder:
        on_event(StageStarted("measure", "an undisturbed training"))
        with observed_training(job, Path(folder, "undisturbed")) as undisturbed:
            expected = undisturbed.document()["training"]
        on_event(StageEnded("measure", f"{expected['steps']} steps undisturbed"))
        on_event(StageStarted("measure", f"the same with {bench.kills} kills"))
        with observed_training(job, Path(folder, "disturbed")) as disturbed:
            kills = _kill(bench, disturbed, on_event)
            found = disturbed.document()["training"]
        on_event(StageEnded("measure", f"{found['attempts']} attempts"))
    seconds = [kill["seconds"] for kill in kills]
    result = {
        "system": "farandole",
        "version": version("farandole"),
        "about": "`farandole train`; from kill -9 of a random worker to the next step of the training",
        "case": f"kill -9 x {len(kills)}",
        "workers": found["workers"],
        "kills": len(kills),
        "seconds_median": round(statistics.median(seconds), 2),
        "seconds_max": round(max(seconds), 2),
        "bit_identical": found["weights_digest"] == expected["weights_digest"],
        "each": kills,
    }
    return {"machine": describe_machine(), "results": [result]}


def _kill(bench: RecoverBench, running: ObservedTraining, on_event: EventHandler) -> list[dict[str, Any]]:
    """Kill workers one after the other, each after the training has resumed."""
    rng = random.Random(bench.seed)
    running.wait_for_event("first_step")
    kills: list[dict[str, Any]] = []
    while len(kills) < bench.kills:
        is_running = running.wait_while_running(rng.uniform(0, bench.within_s))
        workers = running.workers()
        if not is_running or len(workers) < bench.job.resources.workers:
            raise SpecError(
                f"recover: the training ended after {len(kills)} of {bench.kills} kills; make it last longer, for"
                " example by --set train.epochs, or request fewer kills"
            )
        rank = rng.choice(sorted(workers))
        killed_s = time.time()
        os.kill(workers[rank], signal.SIGKILL)
        recovered = running.wait_for_event("restarted", len(kills) + 1)
        if recovered is None:
            running.document()  # raises why it ended
            raise SpecError("recover: the training reached its end without one of its workers; make it last longer")
        seconds = recovered["time_s"] - killed_s
        kills.append({"rank": rank, "from_step": recovered["from_step"], "seconds": round(seconds, 3)})
        on_event(
            Message(f"kill {len(kills)}: worker {rank}; {seconds:.1f} s to the step after {recovered['from_step']}")
        )
    return kills
