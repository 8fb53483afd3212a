"""Rows of every type with values that distinguish engines, and queries over them."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from farandole.preprocess.values import arrow_type
from farandole.serving.query.translate import Translation, translate_tables
from farandole.spec import Job, parse_job

INF, NAN = float("inf"), float("nan")
TYPES = {
    "i": "int", "j": "int", "b": "bigint", "s8": "tinyint", "x": "double", "y": "double", "f": "float",
    "dec": "decimal(10,2)", "t": "string", "u": "string", "num": "string", "d": "date", "e": "date",
    "ts": "timestamp", "tn": "timestamp_ntz", "p": "boolean", "q": "boolean", "iso": "string", "stamp": "string",
}  # fmt: skip
DAYS = [datetime.date(2013, 1, 6), datetime.date(2012, 2, 29), datetime.date(1969, 12, 31), datetime.date(2020, 12, 31)]
TIMES = [
    datetime.datetime(2013, 1, 6, 23, 59, 59, 999999), datetime.datetime(1969, 12, 31, 23, 59, 59, 500000),
    datetime.datetime(2012, 2, 29), datetime.datetime(2021, 1, 3, 0, 0, 0, 120000),
]  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "i": [7, -7, 0, 3, 12, None, 2013, 1],
    "j": [2, 2, -3, 3, -5, 1, None, 4],
    "b": [5_000_000_000, -5_000_000_001, 0, 1, -1, None, 7, 9],
    "s8": [1, -1, 127, -128, 0, None, 5, 6],
    "x": [0.1, -0.0, 2.5, -2.5, NAN, None, 0.49999999999999994, -7.75],
    "y": [0.3, 0.0, NAN, 7.0, -INF, 1.0, None, 2.0],
    "f": [0.1, -0.0, 2.5, NAN, 1e-30, None, 16777216.0, -3.5],
    "dec": ["1.50", "-1.50", "0.00", "12345678.99", "0.01", None, "2.50", "-0.49"],
    "t": ["Añb", "", "  ab ", "a,b,,c", "\u00c9\u00c0Z\u0434", None, "x1y22", "line\nx\n"],
    "u": ["b", "", "a", ",", "\u00e9", "x", None, "ab"],
    "num": ["42", " -7 ", "+0", "007", "1", None, "2147483647", "-2147483648"],
    "d": [*DAYS, *DAYS[:1], None, *DAYS[:2]],
    "e": [*DAYS[1:], DAYS[0], DAYS[2], DAYS[0], None, DAYS[3]],
    "ts": [*TIMES, *TIMES[:1], None, *TIMES[:2]],
    "tn": [*TIMES[2:], *TIMES[:2], None, *TIMES[:3]],
    "p": [True, False, None, True, False, None, True, False],
    "q": [True, True, True, None, False, None, False, None],
    "iso": ["2013-01-06", "2012-2-29", " 1969-12-31 ", "2020-12-31", "2000-01-01", None, "1999-09-09", "0001-01-01"],
    "stamp": ["2013-01-06 23:59:59.5", "2012-02-29T00:00:00", "2013-01-06", " 2013-01-06 01:02:03.000001 ",
             "1969-12-31 23:59:59", None, "2013-01-06 01:02:03", "2013-01-06"],
}  # fmt: skip
LOOKUP = pa.table({"k": pa.array([7, 0, 3, None], pa.int32()), "name": ["seven", "zero", None, "null"]})


def expressions(text: str) -> list[str]:
    """Return the expressions of a text, between semicolons and line ends."""
    return [part.strip() for part in text.replace("\n", ";").split(";") if part.strip()]


def rows() -> pa.Table:
    """Return the rows of the source `t`."""
    columns = {**VALUES, "dec": [None if value is None else Decimal(value) for value in VALUES["dec"]]}
    columns["ts"] = [None if value is None else value.replace(tzinfo=datetime.UTC) for value in VALUES["ts"]]
    return pa.table({name: pa.array(columns[name], arrow_type(kind)) for name, kind in TYPES.items()})


def job_of(query: str) -> Job:
    """Return a job with a query over the sources `t` and `lookup`."""
    sources = {name: {"path": f"/{name}.parquet"} for name in ("t", "lookup")}
    features = {"v0": {"kind": "categorical"}}
    return parse_job({"name": "semantics", "data": {"sources": sources, "query": query, "features": features}})


def translated(query: str, wanted: list[str]) -> Translation:
    """Translate a query."""
    types = {"t": TYPES, "lookup": {"k": "int", "name": "string"}}
    return translate_tables(job_of(query), wanted, types, "t", {"lookup": lambda: LOOKUP})


def select(parts: list[str]) -> tuple[str, list[str]]:
    """Return the query that gives expressions as columns `v0`, `v1`, …, and these names."""
    names = [f"v{number}" for number in range(len(parts))]
    return "SELECT " + ", ".join(
        f"{part} AS {name}" for part, name in zip(parts, names, strict=True)
    ) + " FROM t", names
