"""Loader benchmark: shuffled batches, compared with memcpy and other libraries."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loader.cases import ARRAYS, CASES, write_case
from benchmarks.machine import describe_machine, run_module
from benchmarks.selection import select_names, select_systems
from farandole.events import EventHandler, Progress, StageEnded, StageStarted, ignore_event

OWN_SYSTEMS = ("memcpy", "memcpy_batches", "farandole", "torch")
"""Systems that run in this interpreter."""
PEERS = ("streaming", "litdata", "datasets", "webdataset")
"""Systems that run in the interpreter of the peers, if they are installed."""
_MEASURE = "benchmarks.loader.process"
_BATCH_ROWS = 1024
_EPOCHS = 2
_IN_MEMORY_ROWS = 1_000_000
"""Maximum rows for torch, which holds them all in memory."""


@dataclass(frozen=True)
class LoaderBench:
    """Options of the loader benchmark.

    Args:
        cases: Names of `CASES`; empty: all.
        systems: Names of systems; empty: all that are installed.
        rows: Rows of each case; None: the default of the case.
        peer_rows: Maximum rows that a peer reads: peers need minutes for a million. Their rows per second count.
        repeats: Processes for each system; the fastest one counts.
        peers_python: The interpreter in which the peers are installed.
        quick: Whether to read few rows, once, only to check that it works.
    """

    cases: Sequence[str] = ()
    systems: Sequence[str] = ()
    rows: int | None = None
    peer_rows: int = 50_000
    repeats: int = 3
    peers_python: str = sys.executable
    quick: bool = False


def bench_loader(bench: LoaderBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document.

    Args:
        bench: The options.
        on_event: Receives an event for each process.

    Raises:
        SpecError: A case or a system does not exist.
        UnavailableError: A requested system is not installed.
    """
    cases = select_names("--case", bench.cases, CASES)
    peers = {name: name for name in PEERS}
    systems = select_systems(bench.systems, OWN_SYSTEMS, peers, bench.peers_python, on_event)
    on_event(StageStarted("bench", f"loader: {', '.join(systems)}"))
    results: list[dict[str, Any]] = []
    for name in cases:
        with tempfile.TemporaryDirectory(prefix="farandole-benchmark-") as scratch:
            results += _measure_case(name, systems, bench, Path(scratch), on_event)
    on_event(StageEnded("bench", f"{len(results)} results"))
    return {"machine": describe_machine(), "results": results}


def _measure_case(
    name: str, systems: list[str], bench: LoaderBench, scratch: Path, on_event: EventHandler
) -> list[dict[str, Any]]:
    case = CASES[name]
    rows = bench.rows or (case.quick_rows if bench.quick else case.rows)
    repeats = 1 if bench.quick else bench.repeats
    total = len(systems) * repeats
    on_event(Progress("bench", 0, total, "processes", f"{name}: writing {rows:,} rows"))
    plain_rows = min(rows, _IN_MEMORY_ROWS)
    write_case(case, scratch, rows, plain_rows)
    peer_rows = min(plain_rows, case.quick_rows if bench.quick else bench.peer_rows)
    _write_peers(name, [system for system in systems if system in PEERS], peer_rows, bench, scratch, on_event)
    runs: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    # In turn, so that other load on the machine affects all systems alike.
    for repeat in range(repeats):
        for number, system in enumerate(systems):
            text = f"{name}: {system}, {repeat + 1} of {repeats}"
            on_event(Progress("bench", repeat * len(systems) + number, total, "processes", text))
            runs[system].append(_run(system, bench, scratch))
    return [{"system": system, "case": name, **_best(runs[system], case.schema.row_bytes)} for system in systems]


def _write_peers(
    name: str, peers: list[str], rows: int, bench: LoaderBench, scratch: Path, on_event: EventHandler
) -> None:
    if not peers:
        return
    import numpy as np

    few = scratch / "peers" / ARRAYS
    few.mkdir(parents=True)
    for path in (scratch / ARRAYS).glob("*.npy"):
        np.save(few / path.name, np.load(path, mmap_mode="r")[:rows])
    for number, peer in enumerate(peers):
        on_event(Progress("bench", number, len(peers), "processes", f"{name}: writing {rows:,} rows for {peer}"))
        request = {"module": "peers", "system": peer, "step": "prepare", "arrays": str(few)}
        run_module(_MEASURE, {**request, "directory": str(scratch / "peers" / peer)}, bench.peers_python)


def _run(system: str, bench: LoaderBench, scratch: Path) -> dict[str, Any]:
    request = {"system": system, "step": "measure", "batch_rows": _BATCH_ROWS, "epochs": _EPOCHS}
    if system in PEERS:
        source = {"module": "peers", "directory": str(scratch / "peers" / system)}
        return run_module(_MEASURE, request | source, bench.peers_python)
    return run_module(_MEASURE, request | {"module": "readers", "directory": str(scratch)})


def _best(runs: list[dict[str, Any]], row_bytes: int) -> dict[str, Any]:
    """Return the fastest run, with the minimum of times and memory: disturbances only ever increase them."""
    best = max(runs, key=lambda run: run["rows_per_s"])
    least = {
        key: None if best[key] is None else round(min(run[key] for run in runs), 2)
        for key in best
        if key.endswith(("_ms", "_mb"))
    }
    rates = {key: round(best[key]) for key in ("rows_per_s", "first_epoch_rows_per_s")}
    mb_per_s = round(best["rows_per_s"] * row_bytes / 1e6, 1)
    description = {key: best[key] for key in ("version", "about")}
    return {"rows": best["rows"], **rates, "mb_per_s": mb_per_s, **least, **description}
