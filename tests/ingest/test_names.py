from __future__ import annotations

from farandole.ingest.names import quoted


def test_a_name_stands_between_backticks_and_its_own_are_doubled() -> None:
    assert quoted("plain") == "`plain`"
    assert quoted("a`b``c") == "`a``b````c`"
