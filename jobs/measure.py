"""Run the example jobs in full for several seeds and compare their figures with their bars.

    .venv/bin/python jobs/measure.py [NAME …] [--seeds 1 2 3] [--set resources.workers=1]

A dataset is prepared once for all seeds. The script prints a Markdown table and exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farandole import Dataset

JOBS = Path(__file__).resolve().parent
Document = dict[str, Any]


def _test(metric: str) -> Callable[[Document], float]:
    return lambda document: document["training"]["metrics"]["test"][metric]


def _line_error(document: Document) -> float:
    """Return the larger of the errors of w and b in y = wx + b."""
    import mlflow
    import pandas as pd

    from farandole.spec import load_job
    from farandole.tracking.store import resolve_store

    mlflow.set_tracking_uri(resolve_store(load_job(JOBS / "linear_regression/job.yaml").tracking).uri)
    model = mlflow.pyfunc.load_model(document["model"]["uri"])
    at_zero, at_one = model.predict(pd.DataFrame({"x": [0.0, 1.0]}))["prediction"]
    return max(abs(at_one - at_zero - 3.25), abs(at_zero + 7.5))


def labels(document: Document, split: str) -> np.ndarray:
    """Return all labels of a split of the training's dataset, in the units of their column."""
    dataset = Dataset(document["dataset"]["path"])
    reader = dataset.split(split)
    stored = np.concatenate([reader.block(number)["label"] for number in range(len(reader.block_rows))])
    return dataset.manifest.columns.target.in_units(stored)


def _persistence(document: Document) -> float:
    """Return 0.85 of the RMSE of the forecast that nothing changes."""
    return float(0.85 * np.sqrt(np.mean(np.square(labels(document, "test")))))


def _mean_error(document: Document) -> float:
    """Return half of the RMSE of predicting the mean of the training rows."""
    return float(0.5 * np.sqrt(np.mean(np.square(labels(document, "test") - labels(document, "train").mean()))))


def _bag_of_words(_: Document) -> float:
    """Return the accuracy of scikit-learn's logistic regression over TF-IDF on the same rows."""
    done = subprocess.run(
        [sys.executable, str(JOBS / "text_classification/baseline.py")], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(done.stdout)["test_accuracy"])


@dataclass(frozen=True)
class System:
    """A job's figure and its bar.

    Args:
        name: The name of the figure.
        figure: Reads the figure from a result document.
        bar: The bar: a number, or a function of the result document.
        at_most: Whether lower is better.
        folder: The job's folder. Default: the name of the system.
        settings: Overrides of the job file.
    """

    name: str
    figure: Callable[[Document], float]
    bar: float | Callable[[Document], float]
    at_most: bool = False
    folder: str | None = None
    settings: tuple[str, ...] = ()


SYSTEMS = {
    "xor": System("accuracy", _test("accuracy"), 1.0),
    "linear_regression": System("error of w and b", _line_error, 0.01, at_most=True),
    "regression_net": System("RMSE (half of the mean's)", _test("rmse"), _mean_error, at_most=True),
    "mnist_mlp": System("accuracy", _test("accuracy"), 0.94),
    "mnist_cnn": System("accuracy", _test("accuracy"), 0.975),
    "text_classification": System("accuracy (TF-IDF's)", _test("accuracy"), _bag_of_words),
    "weather_lstm": System("RMSE (0.85 of persistence's)", _test("rmse"), _persistence, at_most=True),
    "weather_gru": System(
        "RMSE (0.85 of persistence's)",
        _test("rmse"),
        _persistence,
        at_most=True,
        folder="weather_lstm",
        settings=("model.options.cell=gru",),
    ),
    "multimodal": System("accuracy", _test("accuracy"), 0.95),
    "flights": System("ROC AUC", _test("roc_auc"), 0.78),
}


def run(folder: str, settings: list[str]) -> Document:
    """Run a job and return the result document of `farandole run`."""
    command = [str(Path(sys.executable).with_name("farandole")), "run", str(JOBS / folder / "job.yaml"), "--json"]
    for setting in settings:
        command += ["--set", setting]
    document: Document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return document


def measure(name: str, seeds: list[int], settings: list[str]) -> tuple[str, bool]:
    """Measure a system; return its row of the table and whether all seeds reached the bar."""
    system = SYSTEMS[name]
    figures, seconds, bar = [], [], 0.0
    for seed in seeds:
        start = time.perf_counter()
        document = run(system.folder or name, [*system.settings, *settings, f"train.seed={seed}"])
        seconds.append(time.perf_counter() - start)
        figures.append(system.figure(document))
        if seed == seeds[0]:
            bar = system.bar(document) if callable(system.bar) else system.bar
        print(f"{name}, seed {seed}: {system.name} {figures[-1]:.4g}, bar {bar:.4g}", file=sys.stderr, flush=True)
    reached = [figure <= bar if system.at_most else figure >= bar for figure in figures]
    cells = [f"{figure:.4f}" + ("" if good else " (missed)") for figure, good in zip(figures, reached, strict=True)]
    sign = "at most" if system.at_most else "at least"
    row = [name, system.name, f"{sign} {bar:.4g}", *cells, f"{seconds[0]:.0f}", f"{min(seconds):.0f}"]
    return f"| {' | '.join(row)} |", all(reached)


def main() -> int:
    """Measure the systems of the command line; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="FIELD=VALUE")
    options = parser.parse_args()
    for name in options.names:
        if name not in SYSTEMS:
            parser.error(f"{name}: unknown; use {', '.join(SYSTEMS)}")
    measured = [measure(name, options.seeds, options.settings) for name in options.names or SYSTEMS]
    titles = ["job", "on test", "bar", *(f"seed {seed}" for seed in options.seeds), "s, first", "s, data ready"]
    print(f"| {' | '.join(titles)} |\n|---|---|---|{'---:|' * (len(titles) - 3)}")
    print("\n".join(row for row, _ in measured))
    return 0 if all(reached for _, reached in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
