from __future__ import annotations

from farandole.ingest.spark.sql_quoting import quote_identifier


def test_name_is_quoted_in_backticks_and_its_backticks_are_doubled() -> None:
    assert quote_identifier("plain") == "`plain`"
    assert quote_identifier("a`b``c") == "`a``b````c`"
