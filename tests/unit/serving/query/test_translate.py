from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.serving.query import UntranslatableError
from farandole.serving.query.translate import translate, translate_both
from farandole.spec import Job, parse_job

FLIGHTS = "carrier,delay,day,tail\nUA,12,2013-01-01,N1\nAA,NA,2013-01-02,N2\nUA,-3,2013-01-03,\nB6,40,2013-01-04,N1\n"
PLANES = "tail,seats\nN1,100\nN2,200\n"
QUERY = """
    SELECT f.carrier, dayofyear(f.day) AS day_number, p.seats, f.delay > 15 AS late, xxhash64(f.tail) AS part
    FROM flights f LEFT JOIN planes p ON p.tail = f.tail WHERE f.delay IS NOT NULL
"""


def job(folder: Path, query: str | None = QUERY, planes: str = PLANES, **changes: Any) -> Job:
    (folder / "flights.csv").write_text(FLIGHTS)
    (folder / "planes.csv").write_text(planes)
    columns = {"carrier": "string", "delay": "double", "day": "date", "tail": "string"}
    data = {
        "sources": {
            "flights": {"path": str(folder / "flights.csv"), "null_values": ["NA"], "columns": columns},
            "planes": {"path": str(folder / "planes.csv")},
        },
        "query": query,
        "features": {
            "carrier": {"kind": "categorical"}, "day_number": {"kind": "numeric"}, "seats": {"kind": "numeric"},
        },
        "label": {"column": "late", "kind": "binary"},
        **changes,
    }  # fmt: skip
    return parse_job({"name": "flights", "data": data})


def test_a_prediction_needs_neither_the_label_nor_its_condition(tmp_path: Path) -> None:
    translation, reader = translate_both(job(tmp_path))
    query = translation.query
    assert dict(query.columns) == {"carrier": "string", "day": "date", "tail": "string"}
    assert query.left_out == ("NOT f.delay IS NULL",)
    assert query.outputs == {"carrier": "string", "day_number": "int", "seats": "bigint"}
    rows = reader.sample(10)
    assert query.apply(rows).columns.to_pylist() == [
        {"carrier": "UA", "day_number": 1, "seats": 100},
        {"carrier": "AA", "day_number": 2, "seats": 200},
        {"carrier": "UA", "day_number": 3, "seats": None},
        {"carrier": "B6", "day_number": 4, "seats": 100},
    ]
    assert translation.full.apply(rows).excluded.tolist() == [1]


def test_rows_are_read_with_the_spellings_of_the_source(tmp_path: Path) -> None:
    query = translate(job(tmp_path))
    rows = query.raw_batch({"carrier": ["NA", "UA"], "day": ["2013-1-5", ""], "tail": ["N1", "N9"]})
    assert query.apply(rows).columns.to_pylist() == [
        {"carrier": None, "day_number": 5, "seats": 100},
        {"carrier": "UA", "day_number": None, "seats": None},
    ]


def test_a_join_that_only_the_label_needs_is_left_out(tmp_path: Path) -> None:
    columns = "carrier, 1 AS day_number, 2 AS seats, p.seats > 100 AS late"
    query = f"SELECT {columns} FROM flights f JOIN planes p ON p.tail = f.tail"
    translation, _ = translate_both(job(tmp_path, query))
    assert list(translation.query.columns) == ["carrier"]
    assert not translation.query.lookups
    assert list(translation.full.lookups) == ["lookup_0"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"query": QUERY + " AND (f.delay > 0 OR f.carrier = 'UA')"}, "compares other columns with delay"),
        ({"planes": PLANES + "N1,300\n"}, "planes has up to 2 rows with the same tail"),
        ({"transform": "module:function"}, "data.transform changes its rows by Python"),
        ({"privacy": {"columns": {"carrier": {"policy": "generalise", "width": 1}}}}, "data.privacy changes carrier"),
        ({"query": "SELECT carrier FROM flights"}, "gives no column day_number"),
        ({"query": "SELECT * FROM elsewhere"}, "names no source"),
    ],
)
def test_the_reason_why_a_query_cannot_travel(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UntranslatableError, match=reason):
        translate(job(tmp_path, **changes))


def test_a_job_without_a_query_has_none_to_translate(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    source = {"a": {"path": str(tmp_path / "a.csv")}}
    plain = parse_job({"name": "a", "data": {"sources": source, "features": {"x": {"kind": "numeric"}}}})
    with pytest.raises(UntranslatableError, match="there is none"):
        translate(plain)
