"""Training benchmark: time per step, compared with scripts that use Horovod, torch's DDP, or one process."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, repository_on_python_path
from benchmarks.selection import select_names
from benchmarks.train.cases import TRAINING_CASES, TrainingCase
from farandole.errors import TrainingError, UnavailableError
from farandole.events import EventHandler, Progress, StageEnded, StageStarted, ignore_event
from farandole.launch.script import run_script

SYSTEMS = {
    "farandole": "Farandole's trainer on a dataset: loading, all-reduce, checks, logging",
    "horovod": "a script with Horovod's DistributedOptimizer on tensors in memory",
    "ddp": "a script with torch's DistributedDataParallel on tensors in memory, over gloo, or NCCL on GPUs",
    "single": "the same script in one process with all threads",
}
"""Description of each system."""
_WORKER = Path(__file__).with_name("worker.py")
_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class TrainBench:
    """Options of the training benchmark.

    Args:
        cases: Names of `TRAINING_CASES`; empty: all.
        systems: Names of `SYSTEMS`; empty: all.
        workers: Processes of each gang.
        gpus: GPUs of each process, 0 or 1.
        repeats: Gangs of each system, in turn with the others.
        quick: Whether to make few steps, once, only to check that it works.
    """

    cases: Sequence[str] = ()
    systems: Sequence[str] = ()
    workers: int = 2
    gpus: int = 0
    repeats: int = 3
    quick: bool = False


def bench_train(bench: TrainBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document.

    Args:
        bench: The options.
        on_event: Receives an event for each gang.

    Raises:
        SpecError: A case or a system does not exist.
        UnavailableError: There are fewer GPUs than processes that need one.
        TrainingError: A gang failed.
    """
    bench = replace(
        bench,
        cases=select_names("--case", bench.cases, TRAINING_CASES),
        systems=select_names("--system", bench.systems, SYSTEMS),
    )
    if bench.gpus:
        _require_gpus(bench.workers)
    on_event(StageStarted("bench", f"train: {', '.join(bench.systems)}, {bench.workers} workers"))
    results: list[dict[str, Any]] = []
    for name in bench.cases:
        with tempfile.TemporaryDirectory(prefix="farandole-benchmark-") as scratch:
            results += _measure_case(TRAINING_CASES[name], bench, Path(scratch), on_event)
    on_event(StageEnded("bench", f"{len(results)} results"))
    return {"machine": describe_machine(), "results": results}


def _require_gpus(workers: int) -> None:
    import torch

    found = torch.cuda.device_count()
    if found < workers:
        raise UnavailableError(
            f"--gpus: torch finds {found} usable GPUs here, and {workers} processes need one each; lower --workers, or"
            " leave --gpus out"
        )


def _measure_case(case: TrainingCase, bench: TrainBench, scratch: Path, on_event: EventHandler) -> list[dict[str, Any]]:
    steps, repeats = (case.quick_steps, 1) if bench.quick else (case.steps, bench.repeats)
    case.write(scratch / "dataset", steps)
    found: dict[str, list[list[dict[str, Any]]]] = {system: [] for system in bench.systems}
    # In turn, so that other load on the machine affects all systems alike.
    for repeat in range(repeats):
        for number, system in enumerate(bench.systems):
            done, total = repeat * len(bench.systems) + number, repeats * len(bench.systems)
            on_event(Progress("bench", done, total, "gangs", f"{case.name}: {system}, {repeat + 1} of {repeats}"))
            found[system].append(_run(system, case, bench, scratch))
    return [_result(system, case, runs) for system, runs in found.items()]


def _run(system: str, case: TrainingCase, bench: TrainBench, scratch: Path) -> list[dict[str, Any]]:
    """Run one gang, and return the measurements of each of its processes."""
    cores = len(os.sched_getaffinity(0))
    size = 1 if system == "single" else bench.workers
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        request = Path(out, "request.json")
        options = {"system": system, "case": case.name, "threads": max(1, cores // size), "gpus": bench.gpus}
        request.write_text(json.dumps({**options, "dataset": str(scratch / "dataset"), "out": out}), encoding="utf-8")
        with Path(out, "output.txt").open("w+", encoding="utf-8") as output:
            with repository_on_python_path():
                if system in ("farandole", "horovod"):
                    code = run_script(_WORKER, [str(request)], workers=size, output=output)
                else:
                    code = _run_plain(request, size, output)
            output.seek(0)
            text = output.read()
        if code:
            last = (text.strip() or "no message").splitlines()[-1]
            raise TrainingError(f"train: {system} on {case.name} ended with exit code {code}: {last}", detail=text)
        return [json.loads(Path(out, f"{rank}.json").read_text(encoding="utf-8")) for rank in range(size)]


def _run_plain(request: Path, size: int, output: Any) -> int:
    """Run processes that find each other by torch's own variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    threads = str(max(1, len(os.sched_getaffinity(0)) // size))
    processes = [
        subprocess.Popen(
            [sys.executable, str(_WORKER), str(request)],
            env={**os.environ, **variables, "RANK": str(rank), "OMP_NUM_THREADS": threads},
            stdout=output,
            stderr=output,
        )
        for rank in range(size)
    ]
    try:
        return max(abs(process.wait(timeout=_TIMEOUT_S)) for process in processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _result(system: str, case: TrainingCase, runs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the median over all windows of all gangs.

    A step ends when its slowest rank is done; ranks wait for each other in every step, so all of them measure the same.
    """
    step_ms = statistics.median(window for run in runs for window in run[0]["step_ms"])
    cpu_ms = statistics.median(window for run in runs for rank in run for window in rank["cpu_ms"])
    return {
        "system": system,
        "case": case.name,
        "workers": len(runs[0]),
        "step_ms": round(step_ms, 3),
        "fastest_step_ms": round(min(window for run in runs for window in run[0]["step_ms"]), 3),
        "cpu_ms": round(cpu_ms, 3),
        "rows_per_s": round(case.batch_rows / step_ms * 1e3),
        "peak_rss_mb": round(max(rank["peak_rss_mb"] for run in runs for rank in run), 1),
        "loss": round(runs[0][0]["loss"], 6),
        "version": version({"farandole": "farandole", "horovod": "horovod"}.get(system, "torch")),
        "about": SYSTEMS[system],
    }
