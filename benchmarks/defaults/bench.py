"""Comparison of a first model with boosted trees: `farandole init`, `farandole run`, no edit, the same test rows."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.defaults.cases import TABLE_CASES, TableCase
from benchmarks.defaults.trees import METRICS, score_trees
from benchmarks.end_to_end.observed_command import last_document, observe
from benchmarks.machine import describe_machine
from benchmarks.selection import select_names
from farandole.events import EventHandler, Message, ignore_event
from farandole.shards import read_manifest

PUBLISHED = tuple(TABLE_CASES)[:12]
"""The tables of BENCHMARKS.md."""
_TOLERANCE = 0.02
"""The share of the trees' score by which no table may be worse."""
_COMMAND = (sys.executable, "-m", "farandole")


@dataclass(frozen=True)
class TablesBench:
    """Options of the comparison.

    Args:
        tables: Names of the tables; empty: the published ones.
        overrides: Fields of the job files that differ from what `farandole init` wrote, as for `--set`.
    """

    tables: Sequence[str] = ()
    overrides: Sequence[str] = ()


def bench_tables(bench: TablesBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Compare on each table, and return the result document.

    Raises:
        SpecError: A table does not exist.
        TrainingError: A command failed.
        UnavailableError: The package of a table is not installed.
    """
    results = []
    for name in select_names("--tables", bench.tables or PUBLISHED, TABLE_CASES):
        with tempfile.TemporaryDirectory(prefix="farandole-tables-") as folder:
            result = _compare(name, TABLE_CASES[name], Path(folder), bench.overrides)
        results.append(result)
        on_event(Message(f"{name}: {result['metric']} {result['score']:.4f}, trees {result['trees']:.4f}"))
    return {"machine": describe_machine(), "results": results, "summary": summarize(results)}


def _compare(name: str, case: TableCase, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    case.write(folder / f"{name}.csv")
    variables = {"FARANDOLE_HOME": str(folder / "home")}
    started = observe([*_COMMAND, "init", f"{name}.csv", "--label", case.label, "--output", "job"], folder, variables)
    options = [option for override in overrides for option in ("--set", override)]
    ran = observe([*_COMMAND, "run", "job/job.yaml", "--json", *options], folder, variables)
    document = last_document(ran.output)
    directory = document["dataset"]["path"]
    manifest = read_manifest(directory)
    kind = manifest.columns.target.kind
    score, trees = document["training"]["metrics"]["test"][METRICS[kind]], score_trees(directory)
    return {
        "system": "farandole",
        "version": version("farandole"),
        "about": "`farandole init` and `farandole run`, no edit; trees: HistGradientBoosting with its defaults",
        "case": name,
        "rows": sum(manifest.row_counts.values()),
        "kind": kind,
        "metric": METRICS[kind],
        "score": score,
        "trees": trees,
        "difference": score - trees,
        "seconds": round(started.seconds + ran.seconds, 1),
        "training_s": round(sum(document["training"]["time_split"].values()), 1),
        "epochs": document["training"].get("epochs"),
        "best_epoch": document["training"].get("best_epoch"),
    }


def summarize(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count the tables on which the network is at least as good, and find the worst one and the slowest one."""
    shares = {result["case"]: result["difference"] / abs(result["trees"]) for result in results}
    worst = min(shares, key=lambda name: shares[name])
    return {
        "tables": len(results),
        "at_least_as_good": sum(result["difference"] >= 0 for result in results),
        "worse_by_more_than_2_percent": sum(share < -_TOLERANCE for share in shares.values()),
        "worst": worst,
        "worst_share": round(shares[worst], 4),
        "slowest_s": max(result["seconds"] for result in results),
    }
