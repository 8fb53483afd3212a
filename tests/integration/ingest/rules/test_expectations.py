from __future__ import annotations

from typing import Any

import pytest

from farandole.events import Event, Message
from tests.support.ingest_inputs import MakeJob, Prepare, Refuse, Write

QUERY = """
SELECT id, size, color, bought, date_add(DATE'2024-01-01', id) AS day, if(id < 6, NULL, size) AS gaps,
       if(id % 10 = 0, double('NaN'), size) AS holes, id DIV 2 AS pair
FROM rows
"""
# id is 0 to 59, size is id / 2, color is a, b, c in turn, bought is 1 for every fourth row.

MET: list[dict[str, Any]] = [
    {"kind": "range", "column": "size", "min": 0, "max": 29.5},
    {"kind": "range", "column": "day", "min": "2024-01-01", "max": "2024-02-29"},
    {"kind": "range", "column": "holes", "max": 29.5},
    {"kind": "range", "column": "color", "min": "a", "max": "c"},
    {"kind": "allowed", "column": "color", "values": ["a", "b", "c"]},
    {"kind": "allowed", "column": "bought", "values": [0, 1]},
    {"kind": "pattern", "column": "color", "regex": "[a-c]"},
    {"kind": "pattern", "column": "id", "regex": "\\d+"},
    {"kind": "nulls", "column": "size"},
    {"kind": "nulls", "column": "gaps", "max_share": 0.1},
    {"kind": "unique", "columns": ["id"]},
    {"kind": "unique", "columns": ["pair", "bought", "size"]},
    {"kind": "unique", "columns": ["pair"], "max_share": 0.5},
    {"kind": "rows", "min": 60, "max": 60},
    {"kind": "condition", "sql": "size * 2 = id"},
    {"kind": "condition", "sql": "gaps IS NULL OR gaps >= 3"},
]

BROKEN: list[tuple[dict[str, Any], str]] = [
    (
        {"kind": "range", "column": "size", "min": 1, "max": 28},
        "column size: 1 to 28 is expected; 5 of 60 rows (8.33%) break this: '0.0' in 1, '0.5' in 1, '28.5' in 1",
    ),
    ({"kind": "range", "column": "day", "max": "2024-02-28"}, "column day: at most '2024-02-28' is expected; 1 of 60"),
    (
        {"kind": "allowed", "column": "color", "values": ["a", "b"], "max_share": 0.25},
        "column color: one of 'a', 'b' is expected; 20 of 60 rows (33.33%) break this (25.00% may): 'c' in 20",
    ),
    (
        {"kind": "pattern", "column": "color", "regex": "a|b"},
        "column color: values that match a|b are expected; 20 of 60",
    ),
    ({"kind": "nulls", "column": "gaps", "max_share": 0.05}, "column gaps: no missing values are expected; 6 of 60"),
    ({"kind": "nulls", "column": "holes"}, "column holes: no missing values are expected; 6 of 60"),
    (
        {"kind": "unique", "columns": ["color", "bought"]},
        "color, bought: no two rows with the same values are expected; 54 of 60 rows (90.00%) break this:"
        " color 'a', bought '0' in 15",
    ),
    ({"kind": "rows", "min": 61}, "at least 61 rows are expected, and there are 60"),
    (
        {"kind": "condition", "sql": "size < 29 OR color = 'x'"},
        "size < 29 OR color = 'x' is expected; 2 of 60 rows (3.33%) break this: color 'b', size '29.0' in 1,",
    ),
]


@pytest.fixture
def expecting(write: Write, make_job: MakeJob) -> Any:
    write()
    return lambda *expect, **data: make_job({"query": QUERY, "expect": list(expect), **data})


def test_met_expectations_are_recorded_in_the_manifest(expecting: Any, prepare: Prepare) -> None:
    events: list[Event] = []
    kept = prepare(expecting(*MET), events.append).manifest.expectations
    assert [one["passed"] for one in kept] == [True] * len(MET)
    assert [{key: one["expected"][key] for key in asked} for one, asked in zip(kept, MET, strict=True)] == MET
    assert kept[9] == {
        "expected": {"kind": "nulls", "column": "gaps", "max_share": 0.1, "on_failure": "fail"},
        "passed": True,
        "rows": 60,
        "broken": 6,
        "share": 0.1,
        "examples": [],
    }
    assert kept[12]["broken"] == 30
    assert kept[12]["examples"][0] == {"value": "0", "rows": 2}
    assert not [event for event in events if isinstance(event, Message)]


def test_broken_expectations_are_reported_together_with_counts_and_examples(expecting: Any, refuse: Refuse) -> None:
    lines = str(refuse(expecting(*(asked for asked, _ in BROKEN)))).splitlines()
    assert len(lines) == len(BROKEN)
    for number, (line, (_, text)) in enumerate(zip(lines, BROKEN, strict=True)):
        assert line.startswith(f"data.expect.{number}: {text}")
        assert line.endswith("or write `on_failure: warn`")


def test_warning_expectation_does_not_stop_the_preparation(expecting: Any, prepare: Prepare) -> None:
    events: list[Event] = []
    asked = [{**one, "on_failure": "warn"} for one, _ in BROKEN]
    kept = prepare(expecting(*asked), events.append).manifest.expectations
    warned = [event.text for event in events if isinstance(event, Message) and event.level == "warning"]
    assert len(warned) == len(BROKEN)
    assert [one["passed"] for one in kept] == [False] * len(BROKEN)
    assert kept[0]["examples"][:2] == [{"value": "0.0", "rows": 1}, {"value": "0.5", "rows": 1}]


def test_protected_values_and_personal_data_are_not_shown(expecting: Any, refuse: Refuse) -> None:
    query = "SELECT *, concat('ada', id, '@mail.example') AS mail FROM rows"
    error = refuse(
        expecting(
            {"kind": "allowed", "column": "color", "values": ["a"]},
            {"kind": "condition", "sql": "upper(color) = 'A' OR id < 0"},
            {"kind": "pattern", "column": "mail", "regex": ".*@example"},
            {"kind": "unique", "columns": ["color"]},
            query=query,
            privacy={"columns": {"color": {"policy": "mask"}}},
        )
    )
    lines = str(error).splitlines()
    assert "40 of 60 rows (66.67%) break this; fix" in lines[0]
    assert "40 of 60 rows (66.67%) break this; fix" in lines[1]
    assert "'[e-mail addresses]' in 1" in lines[2]
    assert "mail.example" not in lines[2]
    assert "57 of 60 rows (95.00%) break this; fix" in lines[3]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"kind": "range", "column": "sise", "min": 0}, "data.expect.0: there is no column sise; did you mean size?"),
        ({"kind": "range", "column": "size", "min": "a"}, "data.expect.0.min: 'a' cannot be compared with a column of"),
        ({"kind": "range", "column": "day", "min": "2024-02-30"}, "data.expect.0.min: '2024-02-30' cannot be compared"),
        ({"kind": "allowed", "column": "color", "values": [1]}, "data.expect.0.values: 1 cannot be compared"),
        ({"kind": "condition", "sql": "size +"}, "data.expect.0.sql: Syntax error"),
        ({"kind": "condition", "sql": "width > 1"}, "data.expect.0.sql: A column, variable, or function"),
        ({"kind": "condition", "sql": "size + 1"}, "data.expect.0.sql: gives double, neither true nor false"),
        ({"kind": "pattern", "column": "color", "regex": "(a"}, "data.expect.0.regex: '(a' is not a regular"),
        ({"kind": "unique", "columns": ["ids"]}, "data.expect.0: there is no column ids; did you mean id?"),
    ],
)
def test_expectation_that_cannot_be_evaluated_is_refused(
    expecting: Any, refuse: Refuse, asked: dict[str, Any], text: str
) -> None:
    assert str(refuse(expecting(asked))).startswith(text)
