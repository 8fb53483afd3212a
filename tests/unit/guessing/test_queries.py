"""The query that is written, and read again by `features: auto`."""

from __future__ import annotations

import pytest

from farandole.guessing.queries import quote_name, replaced_columns, write_query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT * FROM data WHERE y IS NOT NULL", True),
        ("select *\nfrom `data`\nwhere y NOT IN ('a union b')", True),
        ("SELECT *, 1 AS one FROM data WHERE y = 1", False),
        ("SELECT * FROM data JOIN other WHERE a = b", False),
        ("SELECT * FROM data WHERE y = 1 UNION ALL SELECT * FROM data", False),
        ("SELECT * FROM other WHERE y = 1", False),
    ],
)
def test_queries_that_keep_columns(query: str, expected: bool) -> None:
    assert (replaced_columns(query, "data") == frozenset()) is expected


@pytest.mark.parametrize("names", [[], ["price"], ["a, b", "c`d", "from ) where"], [f"c{n}" for n in range(9)]])
@pytest.mark.parametrize("conditions", [[], ["`y` IS NOT NULL", "`y` NOT IN ('it\\'s', 'a) WHERE b')"]])
def test_written_query_is_read_again(names: list[str], conditions: list[str]) -> None:
    conversions = {name: f"CAST(IF({quote_name(name)} IN ('-', ', )'), NULL, 1) AS DOUBLE)" for name in names}
    query = write_query("data", conversions, conditions)
    assert (query is None) is (not names and not conditions)
    assert query is None or replaced_columns(query, "data") == set(names)


def test_conditions_see_converted_values() -> None:
    query = write_query("data", {"price": "CAST(`price` AS DOUBLE)"}, ["NOT isnan(`price`)"])
    assert query == (
        "SELECT *\nFROM (\n  SELECT * EXCEPT (`price`),\n    CAST(`price` AS DOUBLE) AS `price`\n  FROM data\n)"
        "\nWHERE NOT isnan(`price`)"
    )


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * EXCEPT (a), b AS c FROM data",
        "SELECT * EXCEPT (a, b), b AS a FROM data",
        "SELECT * EXCEPT (a), b AS a, c AS c FROM data",
        "SELECT * EXCEPT (a), (SELECT 1) AS a FROM data",
        "SELECT * EXCEPT (a), b AS a FROM data JOIN other",
        "SELECT a FROM (SELECT * EXCEPT (a), b AS a FROM data) WHERE a > 1",
    ],
)
def test_query_that_does_more_than_to_replace_columns_is_recognised(query: str) -> None:
    assert replaced_columns(query, "data") is None
