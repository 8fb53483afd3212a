"""Features by hand: what a person writes with pandas where a job file has sources, a query and features.

The flights get the same features as in `jobs/flights/job.yaml`. Nothing here imports Farandole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BUCKETS, TRAIN_BUCKETS, TEST_BUCKET = 1009, 807, 908
"""The flights are divided by the remainder of a number made of their day, time and flight number.

Remainders below the second figure are training rows, those from the third on are test rows.
"""


@dataclass(frozen=True)
class TableData:
    """A table that is ready for a model, in three parts of 80, 10 and 10% of the rows.

    Args:
        numbers: float32 `[rows, F]`, imputed and standardized.
        codes: int64 `[rows, K]`, 0 for values that the training rows lack.
        cardinalities: Number of codes of each column.
        label: float32 `[rows]`, 0 or 1.
        parts: The indices of the training, validation and test rows.
    """

    numbers: np.ndarray
    codes: np.ndarray
    cardinalities: list[int]
    label: np.ndarray
    parts: tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class _Columns:
    """Raw columns and how each is treated."""

    numbers: pd.DataFrame
    categories: pd.DataFrame
    label: pd.Series
    part: pd.Series
    logarithms: tuple[str, ...] = ()
    indicators: tuple[str, ...] = ()
    clips: dict[str, tuple[float, float]] | None = None
    rare: tuple[str, ...] = ()
    min_count: int = 20


def read_table(case: str, folder: Path) -> TableData:
    """Read the raw files of a case and make features of them.

    Args:
        case: `flights` or `small`.
        folder: The folder of its files.
    """
    return _transform(_READERS[case](folder))


def _flights(folder: Path) -> _Columns:
    hours = ["origin", "time_hour"]
    columns = ["year", "month", "day", "hour", "minute", "sched_arr_time", "arr_delay", "carrier", "origin", "dest"]
    columns += ["flight"]
    flights = pd.read_csv(folder / "flights.csv.zip", usecols=[*columns, "tailnum", "distance", "time_hour"])
    weather = pd.read_csv(folder / "weather.csv").drop(columns=["year", "month", "day", "hour"])
    planes = pd.read_csv(folder / "planes.csv", usecols=["tailnum", "year", "seats"])
    flights = flights[flights.arr_delay.notna()]
    for frame in (flights, weather):
        frame["time_hour"] = pd.to_datetime(frame["time_hour"])
    joined = flights.merge(weather, how="left", on=hours)
    joined = joined.merge(planes.rename(columns={"year": "plane_year"}), how="left", on="tailnum")
    departure = pd.to_datetime(joined[["year", "month", "day", "hour", "minute"]])
    numbers = pd.DataFrame(
        {
            "departure_minute": joined.hour * 60 + joined.minute,
            "arrival_minute": joined.sched_arr_time // 100 * 60 + joined.sched_arr_time % 100,
            "wind_east": np.sin(np.radians(joined.wind_dir)),
            "wind_north": np.cos(np.radians(joined.wind_dir)),
        }
    )
    kept = ["distance", "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    numbers = numbers.join(joined[[*kept, "plane_year", "seats"]])
    hour = departure.dt.hour + departure.dt.minute / 60
    for name, value, period in (
        ("day_of_year", departure.dt.dayofyear - 1, 366),
        ("weekday", departure.dt.weekday, 7),
        ("hour", hour, 24),
    ):
        numbers[f"{name}_sin"] = np.sin(2 * np.pi * value / period)
        numbers[f"{name}_cos"] = np.cos(2 * np.pi * value / period)
    categories = joined[["carrier", "origin", "dest"]].copy()
    categories["route"] = joined.origin + " " + joined.dest
    categories["carrier_dest"] = joined.carrier + " " + joined.dest
    categories["origin_day"] = joined.origin + " " + joined.month.astype(str) + " " + joined.day.astype(str)
    categories["day_of_year"] = departure.dt.dayofyear
    categories["weekday"] = departure.dt.weekday
    categories["hour"] = departure.dt.hour
    bucket = joined.day * 7919 + joined.month * 1299709 + joined.hour * 104729
    bucket = (bucket + joined.minute * 15485863 + joined.flight * 32452843) % BUCKETS
    part = pd.cut(bucket, [-1, TRAIN_BUCKETS - 1, TEST_BUCKET - 1, BUCKETS], labels=["train", "validation", "test"])
    return _Columns(
        numbers,
        categories,
        joined.arr_delay > 15,
        part,
        logarithms=("distance", "wind_speed", "seats"),
        indicators=("temp", "wind_gust", "pressure", "plane_year"),
        clips={
            "wind_speed": (0.0, 0.999),
            "wind_gust": (0.0, 0.9999),
            "precip": (0.0, 0.9999),
            "plane_year": (0.001, 1.0),
        },
        rare=("dest", "route", "carrier_dest"),
    )


def _small(folder: Path) -> _Columns:
    rows = pd.read_csv(folder / "small.csv")
    return _Columns(
        rows[["age", "income", "visits", "balance"]],
        rows[["city", "plan"]],
        rows.left,
        rows.part,
        indicators=("income",),
    )


_READERS: dict[str, Callable[[Path], _Columns]] = {"flights": _flights, "small": _small}


def _transform(columns: _Columns) -> TableData:
    """Fit on the training rows and transform all rows."""
    train, validation, test = (np.flatnonzero(columns.part == name) for name in ("train", "validation", "test"))
    parts = (train, validation, test)
    numbers = [_numbers(name, values, columns, parts[0]) for name, values in columns.numbers.items()]
    codes, cardinalities = [], []
    for name, values in columns.categories.items():
        counts = values.iloc[parts[0]].value_counts()
        known = counts.index[counts >= (columns.min_count if name in columns.rare else 1)]
        numbered = pd.Series(np.arange(1, len(known) + 1), index=known)
        codes.append(values.map(numbered).fillna(0).to_numpy(np.int64))
        cardinalities.append(len(known) + 1)
    return TableData(
        np.concatenate(numbers, axis=1).astype(np.float32),
        np.stack(codes, axis=1),
        cardinalities,
        columns.label.to_numpy(np.float32),
        parts,
    )


def _numbers(name: Any, values: pd.Series, columns: _Columns, train: np.ndarray) -> np.ndarray:
    """Clip, take the logarithm, impute by the median, standardize, and add the indicator of missing values."""
    missing = values.isna().to_numpy()
    exact = values.astype("float64")
    if columns.clips and name in columns.clips:
        low, high = columns.clips[name]
        exact = exact.clip(exact.iloc[train].quantile(low), exact.iloc[train].quantile(high))
    if name in columns.logarithms:
        exact = np.log1p(exact)
    exact = exact.fillna(exact.iloc[train].median())
    fitted = exact.iloc[train]
    scaled = ((exact - fitted.mean()) / (fitted.std() or 1.0)).to_numpy()
    return np.stack([scaled, missing], axis=1) if name in columns.indicators else scaled[:, None]
