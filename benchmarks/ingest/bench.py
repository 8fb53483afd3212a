"""Ingest benchmark: preparation of a dataset from raw CSV, compared with Spark's own Parquet and with peers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ingest.flights import write_flights
from benchmarks.machine import describe_machine, run_module
from benchmarks.selection import select_systems
from farandole.events import EventHandler, Progress, StageEnded, StageStarted, ignore_event

OWN_SYSTEMS = ("farandole", "parquet", "parquet_spark", "parquet_cached", "parquet_raw")
"""Systems that share one Spark session in this interpreter."""
PEERS = {"mds": "streaming"}
"""Systems with a Spark session in the interpreter of the peers, and the module that each needs."""
_WRITERS = "benchmarks.ingest.writers"
_QUICK_ROWS = 20_000


@dataclass(frozen=True)
class IngestBench:
    """Options of the ingest benchmark.

    Args:
        systems: Names of systems; empty: all that are installed.
        times: Repetitions of the 336,776 real flights.
        peer_times: Maximum repetitions for a peer, which writes each row in Python; its rows per second count.
        repeats: Runs of each system; the fastest one counts.
        memory: Memory of Spark's driver.
        peers_python: The interpreter in which the peers are installed.
        quick: Whether to use few rows, once, only to check that it works.
    """

    systems: Sequence[str] = ()
    times: int = 10
    peer_times: int = 1
    repeats: int = 3
    memory: str = "2g"
    peers_python: str = sys.executable
    quick: bool = False


def bench_ingest(bench: IngestBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document.

    Args:
        bench: The options.
        on_event: Receives an event for each step.

    Raises:
        SpecError: A system does not exist.
        UnavailableError: A requested system, or the package with the flights, is not installed.
    """
    systems = select_systems(bench.systems, OWN_SYSTEMS, PEERS, bench.peers_python, on_event)
    on_event(StageStarted("bench", f"ingest: {', '.join(systems)}"))
    with tempfile.TemporaryDirectory(prefix="farandole-benchmark-") as name:
        scratch = Path(name)
        times = 1 if bench.quick else bench.times
        on_event(Progress("bench", 0, 2, "processes", f"writing {times} times the flights of 2013"))
        rows = _QUICK_ROWS if bench.quick else None
        write_flights(scratch / "flights.csv", times, rows)
        write_flights(scratch / "few.csv", 1, _QUICK_ROWS)
        # Other systems write rows that are transformed by the preprocessing which Farandole fits, so it comes first.
        own = ["farandole", *(system for system in systems if system in OWN_SYSTEMS and system != "farandole")]
        on_event(Progress("bench", 0, 2, "processes", f"one Spark for {', '.join(own)}"))
        results = _run(own, "flights", times, bench, scratch)
        if peers := [system for system in systems if system in PEERS]:
            on_event(Progress("bench", 1, 2, "processes", f"one Spark for {', '.join(peers)}"))
            few = min(times, bench.peer_times)
            write_flights(scratch / "peers.csv", few, rows)
            results += _run(peers, "peers", few, bench, scratch)
        results = [result for result in results if result["system"] in systems]
    on_event(StageEnded("bench", f"{len(results)} results"))
    return {"machine": describe_machine(), "results": results}


def _run(systems: list[str], source: str, times: int, bench: IngestBench, scratch: Path) -> list[dict[str, Any]]:
    request = {
        "systems": systems,
        "source": str(scratch / f"{source}.csv"),
        "warm_up": str(scratch / "few.csv"),
        "directory": str(scratch / "written"),
        "dataset": str(scratch / "dataset"),
        "repeats": 1 if bench.quick else bench.repeats,
        "memory": bench.memory,
    }
    python = bench.peers_python if systems[0] in PEERS else sys.executable
    found = run_module(_WRITERS, request, python)
    size_mb = (scratch / f"{source}.csv").stat().st_size / 1e6
    return [
        {
            "system": system,
            "case": f"flights x {times}",
            **_best(runs, size_mb, found["start_s"]),
            **found["descriptions"][system],
        }
        for system, runs in found["runs"].items()
    ]


def _best(runs: list[dict[str, float]], size_mb: float, start_s: float) -> dict[str, Any]:
    best = min(runs, key=lambda run: run["seconds"])
    return {
        "rows": best["rows"],
        "rows_per_s": round(best["rows"] / best["seconds"]),
        "mb_per_s": round(size_mb / best["seconds"], 1),
        "peak_rss_mb": round(min(run["peak_rss_mb"] for run in runs), 1),
        "seconds": round(best["seconds"], 2),
        "cpu_s": round(min(run["cpu_s"] for run in runs), 2),
        "with_start_s": round(best["seconds"] + start_s, 2),
        "read_mb": round(size_mb, 1),
        "written_mb": round(best["written_mb"], 1),
        **({"verify_s": round(best["verify_s"], 2)} if "verify_s" in best else {}),
    }
