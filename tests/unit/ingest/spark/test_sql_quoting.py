from __future__ import annotations

from farandole.ingest.spark.sql_quoting import quote_identifier


def test_a_name_stands_between_backticks_and_its_own_are_doubled() -> None:
    assert quote_identifier("plain") == "`plain`"
    assert quote_identifier("a`b``c") == "`a``b````c`"
