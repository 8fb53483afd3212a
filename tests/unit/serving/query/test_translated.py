from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DataError
from farandole.serving.query import TranslatedQuery, as_model_columns
from tests.support.translated import rows, translated

QUERY = """
    SELECT i, 10 / j AS ratio, ts, t, l.name AS name FROM t LEFT JOIN lookup l ON l.k = t.i WHERE p IS NOT NULL
"""
COLUMNS = ["ratio", "ts", "name"]


def query() -> TranslatedQuery:
    return translated(QUERY, COLUMNS).query


def test_rows_keep_their_order_and_excluded_rows_are_named() -> None:
    found = query().apply(rows())
    assert found.rows.tolist() == [0, 1, 3, 4, 6, 7]
    assert found.excluded.tolist() == [2, 5]
    assert found.columns.column_names == COLUMNS
    assert found.columns.column("ratio").to_pylist()[:3] == [5.0, 5.0, 10 / 3]
    assert found.columns.schema.field("ts").type == pa.timestamp("us", "UTC")


def test_only_needed_columns_are_asked_for() -> None:
    assert set(query().columns) == {"i", "j", "ts", "p"}


def test_many_rows_keep_their_order() -> None:
    table = pa.concat_tables([rows()] * 20_000)
    found = query().apply(table)
    assert (np.diff(found.rows) > 0).all()
    assert len(found.rows) + len(found.excluded) == len(table)
    assert found.columns.column("name")[-6].as_py() == "seven"


def test_no_rows_give_no_rows() -> None:
    found = query().apply(rows().slice(0, 0))
    assert len(found.columns) == len(found.rows) == len(found.excluded) == 0


def test_a_wrong_row_is_named() -> None:
    wrong = rows().to_pydict()
    wrong["j"][4] = 0
    table = pa.table({name: pa.array(values, rows().schema.field(name).type) for name, values in wrong.items()})
    with pytest.raises(DataError, match="row 4: the model's query fails: division by zero"):
        query().apply(table)
    assert len(query().apply(table.slice(0, 4)).rows) == 3


def test_rows_are_converted_as_the_reader_of_the_source_does() -> None:
    raw = query().raw_batch(
        {"i": ["7", " 8", None], "j": [1.0, 2.0, None], "ts": ["2013-01-01"] * 3, "p": ["t", "n", 1]}
    )
    assert raw.column("i").to_pylist() == [7, 8, None]
    assert raw.schema.field("ts").type == pa.timestamp("us", "UTC")
    assert raw.column("p").to_pylist() == [True, False, True]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"i": [1]}, "column j: is missing"),
        ({"i": ["x"], "j": [1], "ts": [None], "p": [True]}, "column i: 'x' is not int"),
        ({"i": [1], "j": [1, 2], "ts": [None], "p": [True]}, "different numbers of rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused(columns: dict[str, list[object]], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        query().raw_batch(columns)


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(DataError, match="column i: is string and not int32"):
        query().apply(rows().set_column(0, "i", pa.array(["1"] * 8)))


def test_a_saved_query_gives_the_same(tmp_path: Path) -> None:
    query().save(tmp_path)
    loaded = TranslatedQuery.load(tmp_path)
    assert loaded is not None
    assert loaded.sql == query().sql
    assert loaded.apply(rows()).columns.equals(query().apply(rows()).columns)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "lookup_0.parquet", "query.json", "query.sql",
    ]  # fmt: skip


def test_a_bundle_without_a_query_has_none(tmp_path: Path) -> None:
    assert TranslatedQuery.load(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 9}', '{"format_version": 1}'])
def test_a_query_of_another_version_or_a_damaged_one_is_refused(tmp_path: Path, content: str) -> None:
    query().save(tmp_path)
    (tmp_path / "query.json").write_text(content)
    with pytest.raises(DataError, match="export the model again"):
        TranslatedQuery.load(tmp_path)


def test_threads_share_a_query() -> None:
    shared, wanted, found = query(), query().apply(rows()).columns, []
    threads = [threading.Thread(target=lambda: found.append(shared.apply(rows()).columns)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(columns.equals(wanted) for columns in found)


def test_texts_become_the_types_of_training() -> None:
    columns = pa.table({"a": ["1.5", None], "b": pa.array([1, 2], pa.int32())})
    batch = as_model_columns(columns, {"b": "int", "a": "double"})
    assert batch.schema == pa.schema([("b", pa.int32()), ("a", pa.float64())])
    assert batch.column("a").to_pylist() == [1.5, None]
    with pytest.raises(DataError, match="column a: 'x' is not double"):
        as_model_columns(pa.table({"a": ["x"]}), {"a": "double"})
