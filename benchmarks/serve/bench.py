"""Serving benchmark: requests a second and latency of single rows, at 1, 8 and 64 clients.

Each model is trained once by its example job. Its servers run one after the other, round after round; the client runs
on the same machine and takes its share of the cores, from all of them alike.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.observed_command import last_document, observe
from benchmarks.machine import describe_machine
from benchmarks.selection import select_names
from benchmarks.serve.cases import CASES, CLIENTS, MODELS, RawRow, ServeModel
from benchmarks.serve.load import Load, check_wrk, send_load
from benchmarks.serve.servers import SERVERS, Served, first_answer, run_server
from farandole.events import EventHandler, Message, ignore_event

_WARM_UP_S = 2
_FARANDOLE = Path(sys.executable).with_name("farandole")


@dataclass(frozen=True)
class ServeBench:
    """Options of the serving benchmark.

    Args:
        cases: Names of the cases; empty: all.
        systems: Names of the systems; empty: all.
        seconds: Duration of each load.
        workers: Worker processes of each server.
        repeats: Rounds.
    """

    cases: Sequence[str] = ()
    systems: Sequence[str] = ()
    seconds: int = 10
    workers: int = 2
    repeats: int = 3


def bench_serve(bench: ServeBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document.

    Raises:
        SpecError: A case or a system does not exist.
        UnavailableError: `wrk` is not installed.
        TrainingError: A job or a server failed, or refused a request.
    """
    cases = select_names("--case", bench.cases, CASES)
    systems = select_names("--system", bench.systems, SERVERS)
    check_wrk()
    loads: dict[tuple[str, str], list[Load]] = {}
    for name in dict.fromkeys(CASES[case][0] for case in cases):
        clients = [number for number in CLIENTS if f"{name}-{number}" in cases]
        with tempfile.TemporaryDirectory(prefix="farandole-serve-") as folder:
            on_event(Message(f"{name}: training the model"))
            served = _train(MODELS[name], Path(folder), bench.workers)
            rows = MODELS[name].rows()
            for number in range(bench.repeats):
                for system in systems:
                    title = f"{name}, round {number + 1}: {system}"
                    for count, load in _serve(bench, system, served, rows, clients).items():
                        loads.setdefault((system, f"{name}-{count}"), []).append(load)
                        on_event(Message(f"{title}: {count} clients: {load.requests_per_s:,.0f} requests/s"))
    return {
        "machine": describe_machine(),
        "results": [_result(system, case, loads[system, case]) for case in cases for system in systems],
    }


def _train(model: ServeModel, folder: Path, workers: int) -> Served:
    """Run the job of a model; create a key of the service, and export the bundle for all servers."""
    home = folder / "home"
    variables = {"FARANDOLE_HOME": str(home)}
    overrides = [argument for field in model.overrides for argument in ("--set", field)]
    command = [str(_FARANDOLE), "run", str(model.job), *overrides, "--set", f"data.output={home}/dataset", "--json"]
    uri = last_document(observe(command, folder, variables).output)["model"]["uri"]
    bundle = folder / "bundle"
    # Without the query, for no other server runs it: all get the columns that the query returns.
    observe([str(_FARANDOLE), "export", uri, "-o", str(bundle), "--no-query", "--no-onnx"], folder, variables)
    limits = ["--rate", "1000000/s", "--daily-rows", "1000000000"]
    created = observe(
        [str(_FARANDOLE), "keys", "create", "--name", "benchmark", "--scope", "predict", *limits, "--json"],
        folder,
        variables,
    )
    return Served(uri, bundle, home, workers, last_document(created.output)["key"])


def _serve(
    bench: ServeBench, system: str, served: Served, rows: Sequence[RawRow], clients: Sequence[int]
) -> dict[int, Load]:
    """Run one server; return its loads by number of clients."""
    kind = SERVERS[system]
    headers = {"Authorization": f"Bearer {served.key}"} if system == "farandole" else {}
    shown = served if system == "farandole" else Served(served.model, served.bundle, served.home, served.workers)
    bodies = [json.dumps(kind.body(row)).encode() for row in rows]
    with (
        tempfile.TemporaryDirectory(prefix="farandole-serve-") as folder,
        run_server(kind, shown, Path(folder) / "server.log") as url,
    ):
        first_answer(url, bodies[0], headers)
        send_load(url, bodies, headers, max(clients), _WARM_UP_S, Path(folder))
        return {count: send_load(url, bodies, headers, count, bench.seconds, Path(folder)) for count in clients}


def _result(system: str, case: str, loads: Sequence[Load]) -> dict[str, Any]:
    kind = SERVERS[system]

    def median(key: str) -> float:
        return float(round(statistics.median(getattr(load, key) for load in loads), 2))

    return {
        "system": system,
        "version": version(kind.package),
        "about": kind.about,
        "case": case,
        "requests_per_s": round(median("requests_per_s")),
        "p50_ms": median("p50_ms"),
        "p95_ms": median("p95_ms"),
        "p99_ms": median("p99_ms"),
        "each": [round(load.requests_per_s) for load in loads],
    }
