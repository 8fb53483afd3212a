"""Cases of the end-to-end benchmark: raw files, and a job on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from benchmarks.end_to_end import frames
from benchmarks.ingest.flights import flights_archive

_ROOT = Path(__file__).resolve().parents[2]
_SMALL_ROWS = 1000
_LABEL = "f.arr_delay > 15 AS late"
_BUCKET = (
    "(f.day * 7919L + f.month * 1299709L + f.hour * 104729L + f.minute * 15485863L + f.flight * 32452843L)"
    f" % {frames.BUCKETS}"
)
_SPLIT = (
    f"CASE WHEN {_BUCKET} < {frames.TRAIN_BUCKETS} THEN 'train'"
    f" WHEN {_BUCKET} < {frames.TEST_BUCKET} THEN 'validation' ELSE 'test' END AS part"
)


@dataclass(frozen=True)
class EndToEndCase:
    """Raw files and the job that starts from them.

    Args:
        name: Name on the command line.
        about: Description.
        write: Writes the raw files and the job file into a folder; returns the job file.
        rows: Number of raw rows.
    """

    name: str
    about: str
    write: Callable[[Path], Path]
    rows: int


def _write_flights(folder: Path) -> Path:
    """Copy the raw files, for the baselines, and the example job, which reads those of the package.

    The split is a column, which the baselines calculate as well: so all are compared on the same test rows.
    """
    archive = flights_archive()
    for path in (archive, archive.with_name("weather.csv"), archive.with_name("planes.csv")):
        shutil.copyfile(path, folder / path.name)
    job = yaml.safe_load((_ROOT / "jobs" / "flights" / "job.yaml").read_text(encoding="utf-8"))
    data = job["data"]
    data["sources"]["flights"]["columns"]["flight"] = "int"
    data["query"] = data["query"].replace(_LABEL, f"{_LABEL},\n  {_SPLIT}")
    data["split"] = {"column": "part"}
    path = folder / "flights.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def _write_small(folder: Path) -> Path:
    """Write a table of people, some of whom leave, and a job without a query."""
    random = np.random.default_rng(7)
    age = random.integers(18, 80, _SMALL_ROWS)
    income = np.round(random.lognormal(10, 0.5, _SMALL_ROWS), 2)
    visits = random.poisson(4, _SMALL_ROWS)
    balance = np.round(random.normal(0, 500, _SMALL_ROWS), 2)
    city = random.choice(["Lisbon", "Oslo", "Graz", "Leeds", "Nantes"], _SMALL_ROWS)
    plan = random.choice(["free", "basic", "pro"], _SMALL_ROWS, p=[0.5, 0.3, 0.2])
    chance = 1 / (1 + np.exp(0.06 * (age - 40) + 0.4 * (visits - 4) - 1.5 * (plan == "free")))
    left = random.random(_SMALL_ROWS) < chance
    part = random.choice(["train", "validation", "test"], _SMALL_ROWS, p=[0.8, 0.1, 0.1])
    lines = ["age,income,visits,balance,city,plan,left,part"]
    for index in range(_SMALL_ROWS):
        shown = "" if index % 13 == 0 else income[index]
        known = (age[index], shown, visits[index], balance[index], city[index], plan[index])
        lines.append(",".join(map(str, (*known, int(left[index]), part[index]))))
    (folder / "small.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    job = folder / "small.yaml"
    job.write_text(_SMALL_JOB, encoding="utf-8")
    return job


_SMALL_JOB = """\
name: small
data:
  sources:
    people: {path: small.csv}
  features:
    age: {kind: numeric}
    income: {kind: numeric, indicator: true}
    visits: {kind: numeric}
    balance: {kind: numeric}
    city: {kind: categorical}
    plan: {kind: categorical}
  label: {column: left, kind: binary}
  split: {column: part}
model:
  builder: farandole.models.mlp:build
  options: {hidden: [128, 64], dropout: 0.1, embedding_dropout: 0.2}
train:
  epochs: 8
  global_batch_size: 256
  optimizer: {name: adamw, learning_rate: 0.01, weight_decay: 0.01}
  seed: 1
resources: {workers: 2}
"""

END_TO_END_CASES: dict[str, EndToEndCase] = {
    case.name: case
    for case in (
        EndToEndCase("flights", "336,776 flights joined with weather and aircraft", _write_flights, 336_776),
        EndToEndCase("small", "a CSV of 1,000 rows, types not declared, no query", _write_small, _SMALL_ROWS),
    )
}
"""By name."""
