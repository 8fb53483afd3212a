"""Creation of MLflow's SQLite store from its schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from farandole.storage import sqlite_uri
from farandole.tracking import new_store


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let MLflow create a store once, and keep its schema."""
    path = tmp_path_factory.mktemp("schema") / "schema.sql"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_store, "schema_file", lambda: path)
        new_store.main()
    return path


@pytest.fixture(autouse=True)
def _schema(schema: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_store, "schema_file", lambda: schema)


def _structure(path: Path) -> set[tuple[str, ...]]:
    """Return the statement of each table and index as its lines.

    MLflow's migrations write the constraints of a rebuilt table in the order of a set, another one in each process:
    they come last here, sorted.
    """
    with closing(sqlite3.connect(path)) as connection:
        statements = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master") if sql]
    return {tuple(sorted(map(_line, sql.splitlines()), key=_constraint_last)) for sql in statements}


def _line(text: str) -> str:
    return text.strip().removesuffix(",")


def _constraint_last(line: str) -> str:
    return line if line.startswith(("CONSTRAINT", "CHECK", "FOREIGN KEY", "PRIMARY KEY", "UNIQUE")) else ""


def test_store_is_the_one_that_mlflow_creates(tmp_path: Path) -> None:
    own, theirs = tmp_path / "own store.db", tmp_path / "theirs.db"
    assert new_store.create_store(sqlite_uri(own))
    client = mlflow.MlflowClient(sqlite_uri(own), registry_uri=sqlite_uri(own))
    run = client.create_run(client.create_experiment("x", str(tmp_path)))
    client.log_metric(run.info.run_id, "loss", 0.5)
    client.create_registered_model("m")
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.5}
    assert [found.name for found in client.search_experiments()] == ["x", "Default"]
    mlflow.MlflowClient(sqlite_uri(theirs)).search_experiments()
    assert _structure(own) == _structure(theirs)


def test_store_with_tables_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    assert not new_store.create_store(sqlite_uri(path))
    assert _structure(path) == {("CREATE TABLE mine (x)",)}


def test_tables_of_another_process_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE mine (x)")
        assert not new_store._execute_if_empty(connection, "CREATE TABLE other (x);")
    assert _structure(path) == {("CREATE TABLE mine (x)",)}


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "http://localhost:5000", "postgresql://h/db"])
def test_other_stores_are_left_to_mlflow(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not new_store.create_store(uri)
    assert not list(tmp_path.iterdir())


def test_without_the_schema_mlflow_does_its_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_store, "schema_file", lambda: tmp_path / "none.sql")
    assert not new_store.create_store(sqlite_uri(tmp_path / "store.db"))
    assert not (tmp_path / "store.db").exists()
