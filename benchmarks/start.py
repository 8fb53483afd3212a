"""`farandole bench start`: how long a training takes to its first step, next to a bare script under `horovodrun`."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.bare_loop import FIRST_STEP
from benchmarks.machine import describe_machine
from benchmarks.observed_training import observed_training
from farandole.errors import TrainingError
from farandole.events import EventHandler, Message, ignore_event
from farandole.spec import Job

_FIRST = re.compile(re.escape(FIRST_STEP) + r"(?P<time_s>[0-9.]+)")


@dataclass(frozen=True)
class StartBench:
    """What to measure.

    Args:
        job: What is trained; its dataset lies ready.
        repeats: How often each system starts, in turns; the median counts.
    """

    job: Job
    repeats: int = 5


def bench_start(bench: StartBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document: seconds from the start of the command to the end of the first step.

    Raises:
        TrainingFailed: A start failed.
    """
    seconds: dict[str, list[float]] = {"horovodrun": [], "farandole": []}
    with tempfile.TemporaryDirectory(prefix="farandole-start-") as folder:
        for repeat in range(bench.repeats):
            for system, measure in (("horovodrun", _bare), ("farandole", _ours)):
                seconds[system].append(measure(bench.job, Path(folder, f"{system}-{repeat}")))
                on_event(Message(f"{system}: {seconds[system][-1]:.2f} s to the first step"))
    medians = {system: statistics.median(found) for system, found in seconds.items()}
    ways = {
        "horovodrun": ("horovod", "a hand-written loop with the same loader, model and optimizer, without MLflow"),
        "farandole": ("farandole", "`farandole train`: job file, supervisor, MLflow run"),
    }
    results = [
        {
            "system": system,
            "version": version(package),
            "about": about,
            "case": f"start of {bench.job.resources.workers} workers",
            "first_step_s": round(medians[system], 2),
            "overhead_s": round(medians[system] - medians["horovodrun"], 2),
            "each": [round(value, 3) for value in seconds[system]],
        }
        for system, (package, about) in ways.items()
    ]
    return {"machine": describe_machine(), "results": results}


def _ours(job: Job, directory: Path) -> float:
    with observed_training(job, directory) as started:
        first = started.wait_for_event("first_step")
        if first is None:
            started.document()  # tells why it ended
            raise TrainingError("bench: the training ended without a step")
        return float(first["time_s"]) - started.started_s


def _bare(job: Job, directory: Path) -> float:
    """The script under Horovod's own command."""
    directory.mkdir()
    spec = directory / "job.json"
    spec.write_text(job.model_dump_json(), encoding="utf-8")
    horovodrun = str(Path(sys.executable).with_name("horovodrun"))
    command = [horovodrun, "-np", str(job.resources.workers), sys.executable, "-m", "benchmarks.bare_loop"]
    threads = job.resources.threads(len(os.sched_getaffinity(0)), job.resources.workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started_s = time.time()
    done = subprocess.run([*command, str(spec)], env=environment, capture_output=True, text=True, check=False)
    match = _FIRST.search(done.stdout)
    if done.returncode or match is None:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise TrainingError(f"bench: horovodrun ended with {done.returncode}: {last}", detail=done.stderr)
    return float(match["time_s"]) - started_s
