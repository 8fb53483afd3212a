from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from farandole.serving.query.engine import Engine


def engine(sql: str) -> Engine:
    return Engine(sql, {"kept": pa.table({"a": [1, 2]})}, memory="256MiB", threads=1)


def test_a_statement_sees_its_tables() -> None:
    running = engine("SELECT rows.b, kept.a FROM rows JOIN kept ON kept.a = rows.b")
    assert running.run({"rows": pa.table({"b": [2, 3]})}).to_pylist() == [{"b": 2, "a": 2}]
    assert running.run({"rows": pa.table({"b": [1]})}).to_pylist() == [{"b": 1, "a": 1}]


def test_a_failure_leaves_the_engine_usable() -> None:
    running = engine("SELECT CAST(b AS TINYINT) AS b FROM rows")
    with pytest.raises(duckdb.Error):
        running.run({"rows": pa.table({"b": [1000]})})
    assert running.run({"rows": pa.table({"b": [1]})}).to_pylist() == [{"b": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('https://example.com/a.parquet')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/other.db'",
        "EXPORT DATABASE '{folder}/all'",
        "INSTALL httpfs",
        "LOAD '{folder}/evil.duckdb_extension'",
        "SET threads = 64",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "CREATE PERSISTENT SECRET s (TYPE s3)",
        "SELECT * FROM secret_of_this_test",
        "SELECT getenv('HOME')",
    ],
)
def test_files_network_extensions_settings_and_variables_are_out_of_reach(sql: str, tmp_path: Path) -> None:
    secret_of_this_test = pa.table({"a": [1]})
    with pytest.raises(duckdb.Error):
        engine(sql.format(folder=tmp_path)).run({})
    assert list(tmp_path.iterdir()) == []
    assert len(secret_of_this_test) == 1


def test_memory_is_limited() -> None:
    with pytest.raises(duckdb.Error, match=r"(?i)memory"):
        engine("SELECT list(a) FROM range(100000000) AS t(a)").run({})
