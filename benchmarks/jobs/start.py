"""Start benchmark: time to the first step of a training, compared with a bare script under `horovodrun`."""

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

from benchmarks.jobs.bare_loop import FIRST_STEP
from benchmarks.jobs.observed_training import observed_training
from benchmarks.machine import describe_machine, repository_on_python_path
from farandole.errors import TrainingError
from farandole.events import EventHandler, Message, ignore_event
from farandole.jobdir.directory import save_spec
from farandole.spec import Job

_FIRST = re.compile(re.escape(FIRST_STEP) + r"(?P<time_s>[0-9.]+)")


@dataclass(frozen=True)
class StartBench:
    """Options of the start benchmark.

    Args:
        job: The job to train; its dataset must be prepared.
        repeats: Starts of each system, in turn; the median counts.
    """

    job: Job
    repeats: int = 5


def bench_start(bench: StartBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document: seconds from the start of the command to the end of the first step.

    Raises:
        TrainingError: A start failed.
    """
    seconds: dict[str, list[float]] = {"horovodrun": [], "farandole": []}
    with tempfile.TemporaryDirectory(prefix="farandole-start-") as folder:
        for repeat in range(bench.repeats):
            for system, measure in (("horovodrun", _horovodrun), ("farandole", _farandole)):
                seconds[system].append(measure(bench.job, Path(folder, f"{system}-{repeat}")))
                on_event(Message(f"{system}: {seconds[system][-1]:.2f} s to the first step"))
    medians = {system: statistics.median(values) for system, values in seconds.items()}
    systems = {
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
        for system, (package, about) in systems.items()
    ]
    return {"machine": describe_machine(), "results": results}


def _farandole(job: Job, directory: Path) -> float:
    with observed_training(job, directory) as started:
        first = started.wait_for_event("first_step")
        if first is None:
            started.document()  # raises why it ended
            raise TrainingError("start: the training ended without a step")
        return float(first["time_s"]) - started.started_s


def _horovodrun(job: Job, directory: Path) -> float:
    """Return the seconds to the first step of the script under Horovod's own command."""
    directory.mkdir()
    spec = save_spec(directory, job)
    horovodrun = str(Path(sys.executable).with_name("horovodrun"))
    command = [horovodrun, "-np", str(job.resources.workers), sys.executable, "-m", "benchmarks.jobs.bare_loop"]
    threads = job.resources.threads(len(os.sched_getaffinity(0)), job.resources.workers)
    started_s = time.time()
    with repository_on_python_path():
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run([*command, str(spec)], env=environment, capture_output=True, text=True, check=False)
    match = _FIRST.search(done.stdout)
    if done.returncode or match is None:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise TrainingError(f"start: horovodrun ended with {done.returncode}: {last}", detail=done.stderr)
    return float(match["time_s"]) - started_s
