from __future__ import annotations

import pytest

from farandole.serving.query import UntranslatableError
from tests.support.translated import expressions, rows, select, translated

REFUSED = """
round(x, 2); CAST(x AS string); concat(x, 'a'); dec * 2; i * 0.5; dec / 2; 1.5 + i; bround(x); t = 5; d = 5; ts = t
t LIKE 'a\\\\%b'; t RLIKE 'a.b'; t RLIKE u; t RLIKE '(?i)a'; t RLIKE '(?=a)'; t RLIKE '\\\\s'; t RLIKE 'a|b$'
regexp_replace(t, 'a*', 'x'); regexp_replace(t, '(a)', '$1'); substring(t, -3, 2); substring(t, i); initcap(t)
pmod(i, j); rand(); uuid(); current_date(); current_timestamp(); now(); xxhash64(t); hash(t); md5(t)
try_cast(t AS int); sum(i); count(*) OVER (); row_number() OVER (ORDER BY i); explode(array(1, 2))
i IN (SELECT k FROM lookup); t ILIKE 'a'; (SELECT max(k) FROM lookup); EXISTS (SELECT 1 FROM lookup); my_function(i)
months_between(d, e); ts + INTERVAL 1 DAY; date_format(ts, 'EEEE'); to_timestamp(t, 'yyyy'); from_unixtime(b)
t.field; CAST(t AS decimal(5, 2)); trim('x' FROM t); extract(second FROM ts); sha2(t, 256); cbrt(x); i & j; ~i
CAST(t AS binary) = CAST(u AS binary); sign(x); date_trunc(t, ts); try_divide(i, j); 'it''s'; if(p, i, t)
coalesce(t, i); monotonically_increasing_id(); input_file_name(); d + 1; d - e; float(x) || 'a'
"""


@pytest.mark.parametrize("part", expressions(REFUSED))
def test_an_expression_without_an_equivalent_is_refused(part: str) -> None:
    query, names = select([part])
    with pytest.raises(UntranslatableError):
        translated(query, names)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("rand()", "another value each time"),
        ("sum(i)", "aggregates rows"),
        ("count(*) OVER ()", "other rows"),
        ("round(x, 2)", "decimal digits"),
        ("CAST(x AS string)", "write such numbers differently"),
        ("my_udf(i)", "my_udf"),
        ("i * 0.5", "1.5D"),
        ("t LIKE 'a\\\\%b'", "escape"),
        ("'it''s'", "doubled quote"),
    ],
)
def test_the_reason_names_what_is_in_the_way(part: str, reason: str) -> None:
    query, names = select([part])
    with pytest.raises(UntranslatableError, match=reason):
        translated(query, names)


def test_an_expression_that_grows_with_each_subquery_is_refused() -> None:
    query = "SELECT x + x AS a FROM t"
    for _ in range(20):
        query = f"SELECT a + a AS a FROM ({query})"
    with pytest.raises(UntranslatableError, match="too large"):
        translated(query, ["a"])


def test_the_right_side_of_a_decided_condition_is_not_evaluated() -> None:
    query, names = select(["i <> 0 AND 10 / i > 1"])
    found = translated(query, names).query.apply(rows())
    assert found.columns.column("v0").to_pylist() == [True, False, False, True, False, None, False, True]
