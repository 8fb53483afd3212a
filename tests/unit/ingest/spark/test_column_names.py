from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from farandole.ingest.spark.column_names import _renaming, distinguish_case


class Settings:
    """The part of a session that `distinguish_case` uses."""

    def __init__(self) -> None:
        self.values = {"spark.sql.caseSensitive": "false"}
        self.conf = self

    def get(self, key: str) -> str:
        return self.values[key]

    def set(self, key: str, value: str) -> None:
        self.values[key] = value


@pytest.mark.parametrize(
    ("names", "is_sensitive"),
    [
        (["age", "size"], False),
        (["Age", "age"], True),
        (["straße", "STRASSE"], True),
        (["age", "age"], False),
        (["a.b", "a.B"], True),
        ([], False),
    ],
)
def test_case_is_distinguished_only_where_names_differ_in_nothing_else(names: list[str], is_sensitive: bool) -> None:
    session: Any = Settings()
    distinguish_case(session, names)
    assert session.values["spark.sql.caseSensitive"] == str(is_sensitive).lower()


def test_function_receives_batches_under_their_own_names() -> None:
    def names_of(batches: Any) -> Iterator[Any]:
        for batch in batches:
            yield batch.schema.names

    batch = pa.record_batch({"c0": [1], "c1": [2]})
    assert list(_renaming(names_of, ("a.b", "`"))([batch])) == [["a.b", "`"]]
