"""`farandole bench loader`: how fast shuffled batches come, next to memcpy and to others."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loader_cases import ARRAYS, CASES, write_case
from benchmarks.machine import describe_machine, run_module
from benchmarks.selection import check_names, select_systems
from farandole.events import EventHandler, Progress, StageEnded, StageStarted, ignore_event

OURS = ("memcpy", "memcpy_batches", "farandole", "torch")
"""Systems that run in this interpreter."""
PEERS = ("streaming", "litdata", "datasets", "webdataset")
"""Systems that run where they are installed: here, or in the interpreter of the peers."""
_MEASURE = "benchmarks.measure"
_BATCH_ROWS = 1024
_EPOCHS = 2
_IN_MEMORY_ROWS = 1_000_000
"""The most rows that torch gets: it holds them all in memory."""


@dataclass(frozen=True)
class LoaderBench:
    """What to measure.

    Args:
        cases: Names of `CASES`.
        systems: Names of systems; empty: all that are installed.
        rows: Rows of each case; None: the case's own.
        peer_rows: The most rows that a peer reads: they need minutes for a million. Its rows per second count.
        repeats: Processes for each system, of which the fastest counts.
        peers_python: The interpreter that has the peers.
        quick: Few rows, one repeat: to see that it works.
    """

    cases: Sequence[str] = tuple(CASES)
    systems: Sequence[str] = ()
    rows: int | None = None
    peer_rows: int = 50_000
    repeats: int = 3
    peers_python: str = sys.executable
    quick: bool = False


def bench_loader(bench: LoaderBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document.

    Args:
        bench: What to measure.
        on_event: Is told of each process.

    Raises:
        SpecError: A case or a system does not exist.
        EnvironmentLacking: A system that was asked for is not installed.
    """
    check_names("--case", bench.cases, list(CASES))
    peers = {name: name for name in PEERS}
    systems = select_systems(bench.systems, OURS, peers, bench.peers_python, on_event)
    on_event(StageStarted("bench", f"loader: {', '.join(systems)}"))
    results: list[dict[str, Any]] = []
    for name in bench.cases:
        with tempfile.TemporaryDirectory(prefix="farandole-bench-") as scratch:
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
    found: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    # In turn, so that what else the machine does hits all alike.
    for repeat in range(repeats):
        for number, system in enumerate(systems):
            text = f"{name}: {system}, {repeat + 1} of {repeats}"
            on_event(Progress("bench", repeat * len(systems) + number, total, "processes", text))
            found[system].append(_run(system, bench, scratch))
    return [{"system": system, "case": name, **_best(found[system], case.schema.row_bytes)} for system in systems]


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
        place = {"module": "peers", "directory": str(scratch / "peers" / system)}
        return run_module(_MEASURE, request | place, bench.peers_python)
    return run_module(_MEASURE, request | {"module": "readers", "directory": str(scratch)})


def _best(runs: list[dict[str, Any]], row_bytes: int) -> dict[str, Any]:
    """The fastest run; of times and memory the least of all runs, for they too are only ever disturbed upwards."""
    best = max(runs, key=lambda run: run["rows_per_s"])
    least = {
        key: None if best[key] is None else round(min(run[key] for run in runs), 2)
        for key in best
        if key.endswith(("_ms", "_mb"))
    }
    rates = {key: round(best[key]) for key in ("rows_per_s", "first_epoch_rows_per_s")}
    mb_per_s = round(best["rows_per_s"] * row_bytes / 1e6, 1)
    told = {key: best[key] for key in ("version", "about")}
    return {"rows": best["rows"], **rates, "mb_per_s": mb_per_s, **least, **told}
