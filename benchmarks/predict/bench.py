"""Batch scoring benchmark: rows a second, processor time and memory of predictions from Parquet to Parquet.

The model is trained once by the example job `flights`, with its query, so that rows are those of the source. Every
system is a separate command. Rows a second count from the first row that is read, without the start of Python and the
loading of the model; processor seconds and memory are those of the whole process.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.end_to_end.observed_command import Observed, last_document, observe
from benchmarks.machine import describe_machine
from benchmarks.predict.rows import write_rows
from benchmarks.selection import select_names
from farandole.errors import TrainingError
from farandole.events import EventHandler, Message, ignore_event

_ROOT = Path(__file__).resolve().parents[2]
_FARANDOLE = Path(sys.executable).with_name("farandole")
_TOLERANCE = 1e-4
"""Largest difference of two systems' probabilities; their libraries round differently."""


@dataclass(frozen=True)
class _System:
    package: str
    about: str
    command: Callable[[Path, Path, Path], list[str]]


SYSTEMS = {
    "farandole": _System(
        "farandole",
        "`farandole predict`: the job's query in DuckDB, its preprocessing, and the network, on all cores",
        lambda bundle, rows, output: [str(_FARANDOLE), "predict", str(bundle), str(rows), "-o", str(output), "--json"],
    ),
    "pandas": _System(
        "pandas",
        "a script by hand with pandas and torch, whose matrix products use all cores",
        lambda bundle, rows, output: [
            *(sys.executable, "-m", "benchmarks.predict.handwritten", str(bundle), str(rows), str(output)),
        ],
    ),
}


@dataclass(frozen=True)
class PredictBench:
    """Options of the batch scoring benchmark.

    Args:
        rows: Sizes of the files.
        systems: Names of the systems; empty: all.
        model: The directory of a bundle of the job `flights`; None: one is trained.
        repeats: Rounds.
    """

    rows: Sequence[int] = (1_000_000,)
    systems: Sequence[str] = ()
    model: Path | None = None
    repeats: int = 3


def bench_predict(bench: PredictBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document.

    Raises:
        SpecError: A system does not exist.
        TrainingError: A command failed, or the systems predict different probabilities.
    """
    systems = select_names("--system", bench.systems, SYSTEMS)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="farandole-predict-") as scratch:
        folder = Path(scratch)
        bundle = bench.model.absolute() if bench.model is not None else _train(folder, on_event)
        for rows in bench.rows:
            path = folder / "rows.parquet"
            write_rows(path, rows)
            found: dict[str, list[tuple[dict[str, Any], Observed]]] = {system: [] for system in systems}
            for number in range(bench.repeats):
                for system in systems:
                    on_event(Message(f"{rows:,} rows, round {number + 1}: {system}"))
                    found[system].append(_run(system, bundle, path, folder))
            _check_same(folder, systems)
            results += [_result(system, rows, found[system]) for system in systems]
    return {"machine": describe_machine(), "results": results}


def _train(folder: Path, on_event: EventHandler) -> Path:
    """Train the job for one epoch, since the speed of the model counts and not its quality, and export it."""
    on_event(Message("training the model"))
    variables = {"FARANDOLE_HOME": str(folder / "home")}
    job = [str(_ROOT / "jobs/flights/job.yaml"), "--set", "train.epochs=1", "--set", f"data.output={folder}/dataset"]
    uri = last_document(observe([str(_FARANDOLE), "run", *job, "--json"], folder, variables).output)["model"]["uri"]
    bundle = folder / "bundle"
    observe([str(_FARANDOLE), "export", uri, "-o", str(bundle), "--no-onnx"], folder, variables)
    return bundle


def _run(system: str, bundle: Path, rows: Path, folder: Path) -> tuple[dict[str, Any], Observed]:
    output = folder / f"{system}.parquet"
    observed = observe(SYSTEMS[system].command(bundle, rows, output), folder, {"PYTHONPATH": str(_ROOT)})
    return last_document(observed.output), observed


def _check_same(folder: Path, systems: Sequence[str]) -> None:
    """Check that all systems have predicted the same."""
    found = [pq.read_table(folder / f"{system}.parquet").column("probability").to_numpy() for system in systems]
    for system, values in zip(systems[1:], found[1:], strict=True):
        difference = float(np.abs(values - found[0]).max()) if len(values) == len(found[0]) else np.inf
        if not difference <= _TOLERANCE:
            raise TrainingError(
                f"{system} and {systems[0]} predict probabilities that differ by {difference:.2g}, more than"
                f" {_TOLERANCE:g}; their speeds cannot be compared"
            )


def _result(system: str, rows: int, runs: Sequence[tuple[dict[str, Any], Observed]]) -> dict[str, Any]:
    def median(values: Sequence[float], digits: int = 2) -> float:
        return round(float(statistics.median(values)), digits)

    kind = SYSTEMS[system]
    seconds, processor_s = median([run["seconds"] for run, _ in runs]), median([seen.cpu_s for _, seen in runs])
    return {
        "system": system,
        "version": version(kind.package),
        "about": kind.about,
        "case": f"flights-{rows}",
        "rows": rows,
        "rows_per_s": round(rows / max(seconds, 0.01)),
        "seconds": seconds,
        "with_start_s": median([seen.seconds for _, seen in runs]),
        "cpu_s": processor_s,
        "peak_rss_mb": median([seen.peak_rss_mb for _, seen in runs], 0),
    }
