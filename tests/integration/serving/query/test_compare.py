"""The comparison of a job's translated query with Spark, as the export does it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from farandole.serving.query import UntranslatableError
from farandole.serving.query.compare import compare, translate_compared
from farandole.serving.query.translate import translate_both
from farandole.spec import Job, parse_job

pytestmark = pytest.mark.slow(seconds=20)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    lines = [f"{number},{number % 7},{'NA' if number % 5 == 0 else number / 3}" for number in range(200)]
    (tmp_path / "trips.csv").write_text("id,zone,fare\n" + "\n".join(lines) + "\n")
    (tmp_path / "zones.csv").write_text("zone,name\n" + "".join(f"{number},zone {number}\n" for number in range(5)))
    sources = {
        "trips": {"path": str(tmp_path / "trips.csv"), "null_values": ["NA"]},
        "zones": {"path": str(tmp_path / "zones.csv")},
    }
    query = """
        SELECT t.fare / 2 AS half, z.name, t.id % 2 = 0 AS even
        FROM trips t LEFT JOIN zones z ON z.zone = t.zone WHERE t.fare IS NOT NULL
    """
    features = {"half": {"kind": "numeric"}, "name": {"kind": "categorical"}}
    data = {"sources": sources, "query": query, "features": features, "label": {"column": "even", "kind": "binary"}}
    return parse_job({"name": "trips", "data": data})


def test_a_query_that_gives_the_same_rows_travels(spark: SparkSession, job: Job) -> None:
    query = translate_compared(job, rows=150)
    assert dict(query.columns) == {"zone": "bigint", "fare": "double"}
    found = query.apply(query.raw_batch({"zone": ["3", 6], "fare": [9.0, None]}))
    assert found.columns.to_pylist() == [{"half": 4.5, "name": "zone 3"}]
    assert found.excluded.tolist() == [1]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("CAST(CAST(2 AS INT) AS DOUBLE)", "CAST(CAST(2 AS INT) AS DOUBLE) + 1e-14", "half is .* in DuckDB"),
        ("LEFT JOIN", "JOIN", "rows of Spark's result are missing"),
        ("source_rows.c2 IS NULL", "FALSE", "excluded by Spark and not by DuckDB"),
    ],
)  # fmt: skip
def test_one_different_value_is_enough_to_refuse(
    spark: SparkSession, job: Job, old: str, new: str, reason: str
) -> None:
    translation, reader = translate_both(job)
    changed = {}
    for name in ("query", "full"):
        built = getattr(translation, name)
        assert old in built.sql, built.sql
        changed[name] = replace(built, sql=built.sql.replace(old, new))
    with pytest.raises(UntranslatableError, match=reason):
        compare(job, replace(translation, **changed), reader.sample(150))
