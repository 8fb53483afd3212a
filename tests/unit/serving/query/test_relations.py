from __future__ import annotations

import pytest

from farandole.serving.query import UntranslatableError
from tests.support.translated import rows, translated

ROW_BY_ROW = {
    "SELECT i AS v FROM t": [7, -7, 0, 3, 12, None, 2013, 1],
    "SELECT T.I AS v FROM t": [7, -7, 0, 3, 12, None, 2013, 1],
    "SELECT a.v FROM (SELECT i + 1 AS v FROM t) a": [8, -6, 1, 4, 13, None, 2014, 2],
    "WITH a AS (SELECT i, j FROM t), b AS (SELECT i AS v FROM a) SELECT * FROM b": [7, -7, 0, 3, 12, None, 2013, 1],
    "WITH t AS (SELECT i * 2 AS v FROM t) SELECT v FROM t": [14, -14, 0, 6, 24, None, 4026, 2],
    "SELECT * EXCEPT (i), i AS v FROM t": [7, -7, 0, 3, 12, None, 2013, 1],
    "SELECT l.name AS v FROM t LEFT JOIN lookup l ON l.k = t.i": ["seven", None, "zero", None, None, None, None, None],
    "SELECT name AS v FROM (SELECT i AS k FROM t) JOIN lookup USING (k)": ["seven", "zero", None],
    "SELECT name AS v FROM lookup JOIN t ON i = k": ["seven", "zero", None],
    "SELECT i AS v FROM t WHERE i > 3 AND j < 3 OR i = 0": [7, 0, 12],
    "SELECT v FROM (SELECT i AS v, row_number() OVER (ORDER BY i) AS n FROM t)": [7, -7, 0, 3, 12, None, 2013, 1],
    "SELECT a.name AS v FROM t LEFT JOIN lookup a ON a.k = i LEFT JOIN lookup b ON b.k = j WHERE b.k IS NOT NULL": [
        None
    ],
}


@pytest.mark.parametrize("query", ROW_BY_ROW)
def test_queries_that_are_row_by_row(query: str) -> None:
    found = translated(query, ["v"]).query.apply(rows())
    assert found.columns.column("v").to_pylist() == ROW_BY_ROW[query]
    assert sorted([*found.rows, *found.excluded]) == list(range(8))


REFUSED = {
    "SELECT i AS v FROM t GROUP BY i": "GROUP BY",
    "SELECT DISTINCT i AS v FROM t": "`distinct`",
    "SELECT i AS v FROM t ORDER BY i": "ORDER BY",
    "SELECT i AS v FROM t LIMIT 3": "LIMIT",
    "SELECT i AS v FROM t TABLESAMPLE (10 PERCENT)": "sample",
    "SELECT i AS v FROM t UNION ALL SELECT j FROM t": "UNION",
    "SELECT v FROM t LATERAL VIEW explode(array(i)) AS v": "LATERAL VIEW",
    "SELECT max(i) AS v FROM t": "aggregates",
    "SELECT a.i AS v FROM t a JOIN t b ON a.i = b.j": "read twice",
    "SELECT i AS v FROM t, lookup": "CROSS JOIN",
    "SELECT i AS v FROM t RIGHT JOIN lookup ON k = i": "RIGHT",
    "SELECT i AS v FROM t FULL JOIN lookup ON k = i": "FULL",
    "SELECT i AS v FROM t LEFT SEMI JOIN lookup ON k = i": "SEMI",
    "SELECT i AS v FROM lookup LEFT JOIN t ON k = i": "begins with a lookup",
    "SELECT i AS v FROM t JOIN lookup ON k > i": "not an equality",
    "SELECT i AS v FROM t JOIN lookup ON k = i OR k = j": "not an equality",
    "SELECT i AS v FROM t JOIN lookup ON k = x": "joined alike",
    "SELECT i AS v FROM t JOIN lookup ON k + 1 = i": "expression of it",
    "SELECT i AS v FROM t JOIN (SELECT k FROM lookup) l ON l.k = i": "subquery",
    "SELECT nothing AS v FROM t": "not a column",
    "SELECT i AS v, j AS v FROM t": "twice",
    "SELECT i.part AS v FROM t": "struct",
    "SELECT 1 AS v": "no source",
    "SELECT k AS v FROM lookup": "begins with a lookup",
    "VALUES (1)": "not a SELECT",
    "SELECT i AS v FROM t; SELECT 2": "2 statements",
    "SELECT FROM WHERE": "",
    "SELECT v FROM (SELECT i AS v, count(*) OVER () AS n FROM t) WHERE n > 1": "other rows",
}


@pytest.mark.parametrize("query", REFUSED)
def test_queries_that_are_not_row_by_row_are_refused(query: str) -> None:
    with pytest.raises(UntranslatableError, match=REFUSED[query]):
        translated(query, ["v"])
