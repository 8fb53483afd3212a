"""End-to-end benchmark: from raw files to a registered model, compared with what a person would write by hand.

All systems run in turn, round after round, so that each round gives one ratio between neighbours in time.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.cases import END_TO_END_CASES, EndToEndCase
from benchmarks.end_to_end.observed_command import Observed, last_document, observe
from benchmarks.machine import describe_machine
from benchmarks.selection import select_names, select_systems
from farandole.errors import SpecError
from farandole.events import EventHandler, Message, ignore_event

_ROOT = Path(__file__).resolve().parents[2]
FARANDOLE, REPEAT, BEFORE, BEFORE_REPEAT = "farandole", "farandole_repeat", "before", "before_repeat"
_BASELINES = {"boosting": "boosting", "ddp": "ddp", "ray": "ray_train"}
"""By system: its module here."""
SYSTEMS = (FARANDOLE, REPEAT, *_BASELINES, BEFORE, BEFORE_REPEAT)
_ABOUT = {
    FARANDOLE: "`farandole run JOB.yaml`: 2 workers, MLflow run, registered model",
    REPEAT: "the same once more with another learning rate, on the dataset that exists",
    "boosting": "pandas, HistGradientBoosting with its defaults, MLflow",
    "ddp": "pandas, a hand-written loop of the same network in 2 processes (torch DDP, gloo), MLflow",
    "ray": "pandas, the same loop under Ray Train with 2 workers, MLflow",
    BEFORE: "`farandole run` of another checkout",
    BEFORE_REPEAT: "its repeat with another learning rate",
}
_LEARNING_RATE = "train.optimizer.learning_rate=0.008"
_STAGES = (
    ("start of Spark", re.compile(r"prepare: starting Spark")),
    ("reading", re.compile(r"prepare: reading")),
    ("writing", re.compile(r"prepare: (fitting|writing)")),
    ("start of workers", re.compile(r"train: starting \d+ worker")),
    ("training", re.compile(r"train: training on")),
    ("evaluation", re.compile(r"evaluate: evaluating")),
    ("logging and registering", re.compile(r"register: logging")),
    ("exit", re.compile(r"register: \S+:/")),
)
"""Parts of `farandole run`, and the line of its progress with which each begins."""


@dataclass(frozen=True)
class EndToEndBench:
    """Options of the end-to-end benchmark.

    Args:
        cases: Names of the cases; empty: all.
        systems: Names of the systems; empty: all that can run.
        before: Another checkout of Farandole, in which `make setup` was run; None: there is none.
        peers_python: The interpreter of Ray.
        repeats: Rounds.
    """

    cases: Sequence[str] = ()
    systems: Sequence[str] = ()
    before: Path | None = None
    peers_python: str = sys.executable
    repeats: int = 3


@dataclass
class _Runs:
    """The runs of one system on one case."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    digest: str | None = None

    def add(self, observed: Observed) -> None:
        """Add a run."""
        self.seconds.append(observed.seconds)
        self.cpu_s.append(observed.cpu_s)
        self.parts.append(observed.parts)


def bench_end_to_end(bench: EndToEndBench, on_event: EventHandler = ignore_event) -> dict[str, Any]:
    """Measure, and return the result document.

    Raises:
        SpecError: A case or a system does not exist, or the other checkout is missing.
        TrainingError: A command failed.
    """
    cases = select_names("--case", bench.cases, END_TO_END_CASES)
    systems = _systems(bench, on_event)
    results = []
    for name in cases:
        case = END_TO_END_CASES[name]
        runs: dict[str, _Runs] = {system: _Runs() for system in systems}
        for number in range(bench.repeats):
            with tempfile.TemporaryDirectory(prefix="farandole-end-to-end-") as folder:
                _run_round(bench, case, Path(folder), runs, on_event, f"{name}, round {number + 1}")
        results += [_result(case, system, runs) for system in systems]
    return {"machine": describe_machine(), "results": results}


def _systems(bench: EndToEndBench, on_event: EventHandler) -> list[str]:
    requested = list(bench.systems)
    own = [FARANDOLE, REPEAT, "boosting", "ddp"]
    if bench.before is not None:
        if not (bench.before / ".venv" / "bin" / "farandole").exists():
            raise SpecError(f"--before: {bench.before}: has no .venv/bin/farandole; run `make setup` there first")
        own += [BEFORE, BEFORE_REPEAT]
    elif {BEFORE, BEFORE_REPEAT} & set(requested):
        raise SpecError("--system: before: needs --before DIR, another checkout of Farandole")
    systems = select_systems(requested, own, {"ray": "ray"}, bench.peers_python, on_event)
    # A repeat needs the run that it repeats.
    needed = {REPEAT: FARANDOLE, BEFORE_REPEAT: BEFORE}
    wanted = {*systems, *(needed[system] for system in systems if system in needed)}
    return [system for system in SYSTEMS if system in wanted]


def _run_round(
    bench: EndToEndBench,
    case: EndToEndCase,
    folder: Path,
    runs: dict[str, _Runs],
    on_event: EventHandler,
    title: str,
) -> None:
    """Run each system once, on raw files and with a home and a store of its own."""
    job = case.write(folder)
    for system, found in runs.items():
        if system in _BASELINES:
            observed = _run_baseline(bench, case, system, folder)
            found.metrics = last_document(observed.output)["metrics"]
        else:
            observed = _run_farandole(bench, system, job, folder)
            document = last_document(observed.output)
            found.metrics = document["training"]["metrics"]["test"]
            found.digest = document["dataset"]["digest"]
        found.add(observed)
        on_event(Message(f"{title}: {system}: {observed.seconds:.1f} s"))


def _run_baseline(bench: EndToEndBench, case: EndToEndCase, system: str, folder: Path) -> Observed:
    python = bench.peers_python if system == "ray" else sys.executable
    store = f"sqlite:///{folder}/{system}.db"
    module = f"benchmarks.end_to_end.{_BASELINES[system]}"
    work = folder / system
    work.mkdir()  # MLflow puts artifacts into the working directory
    return observe([python, "-m", module, case.name, str(folder), store], work, {"PYTHONPATH": str(_ROOT)})


def _run_farandole(bench: EndToEndBench, system: str, job: Path, folder: Path) -> Observed:
    checkout = bench.before if system in (BEFORE, BEFORE_REPEAT) else None
    home = folder / ("before" if checkout else "now")
    command = Path(sys.executable).with_name("farandole") if checkout is None else checkout / ".venv/bin/farandole"
    arguments = ["run", str(job), "--set", f"data.output={home}/dataset", "--json"]
    if system in (REPEAT, BEFORE_REPEAT):
        arguments += ["--set", _LEARNING_RATE]
    return observe([str(command), *arguments], folder, {"FARANDOLE_HOME": str(home)}, _stage_of)


def _stage_of(line: str) -> str | None:
    return next((part for part, pattern in _STAGES if pattern.search(line)), None)


def _result(case: EndToEndCase, system: str, runs: dict[str, _Runs]) -> dict[str, Any]:
    found = runs[system]
    seconds = statistics.median(found.seconds)
    result = {
        "system": system,
        "version": version("mlflow" if system in _BASELINES else "farandole"),
        "about": _ABOUT[system],
        "case": case.name,
        "rows": case.rows,
        "rows_per_s": round(case.rows / seconds),
        "seconds": round(seconds, 2),
        "cpu_s": round(statistics.median(found.cpu_s), 2),
        "roc_auc": round(found.metrics["roc_auc"], 4),
        "parts": {
            part: round(statistics.median(parts.get(part, 0.0) for parts in found.parts), 2) for part in found.parts[-1]
        },
        "each": [round(value, 2) for value in found.seconds],
    }
    if found.digest is not None:
        result["dataset_digest"] = found.digest
    compared = runs.get(REPEAT if system in (FARANDOLE, BEFORE_REPEAT) else FARANDOLE)
    if compared is not None and system != REPEAT:
        pairs = [one / other for one, other in zip(compared.seconds, found.seconds, strict=True)]
        # Of farandole itself: the repeat's share of the first run.
        result["repeat_ratio" if system == FARANDOLE else "ratio"] = round(statistics.median(pairs), 3)
        result["ratios"] = [round(pair, 3) for pair in pairs]
    return result
