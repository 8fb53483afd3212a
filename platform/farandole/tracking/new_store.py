"""Creation of an empty SQLite store for MLflow from its final schema: `python -m farandole.tracking.new_store`.

MLflow creates a new database by all of its 60 migrations, which takes three seconds of processor time in the first job
of each store. `make setup` lets it do that once, and keeps the resulting schema as SQL in the environment's directory;
a new database is created from there in one transaction. Without that file, or with another version of MLflow, MLflow
does its migrations as ever.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from farandole.process.atomic import write_atomic
from farandole.storage import file_uri, sqlite_path

_IN_MEMORY = ("", ".", ":memory:")


def schema_file() -> Path:
    """Return the file with the schema of the installed MLflow; it may not exist."""
    return Path(sys.prefix, "share", "farandole", f"mlflow-store-{version('mlflow')}.sql")


def create_store(uri: str) -> bool:
    """Create the tables of a SQLite store that does not have any; return whether this was done.

    Another process may do the same, or let MLflow do it: all happens in one exclusive transaction.

    Args:
        uri: MLflow's tracking URI.
    """
    path, schema = sqlite_path(uri), schema_file()
    if path is None or str(path) in _IN_MEMORY or not schema.exists() or (path.exists() and path.stat().st_size):
        return False
    try:
        script = schema.read_text(encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(f"{file_uri(path)}?mode=rwc", uri=True, isolation_level=None)) as connection:
            return _execute_if_empty(connection, script)
    except (OSError, sqlite3.Error):
        return False  # MLflow meets the same problem, and its error is reported


def _execute_if_empty(connection: sqlite3.Connection, script: str) -> bool:
    connection.execute("BEGIN EXCLUSIVE")
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        connection.execute("ROLLBACK")
        return False
    for statement in _statements(script):
        connection.execute(statement)
    connection.execute("COMMIT")
    return True


def _statements(script: str) -> list[str]:
    """Split a script into its statements, without those that begin and end its transaction."""
    statements, part = [], ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            statements.append(part.strip())
            part = ""
    return [statement for statement in statements if statement not in ("BEGIN TRANSACTION;", "COMMIT;")]


def main() -> None:
    """Let MLflow create a store, and keep its schema."""
    target = schema_file()
    if target.exists():
        return
    import mlflow

    with tempfile.TemporaryDirectory(prefix="farandole-store-") as folder:
        path = Path(folder, "store.db")
        mlflow.MlflowClient(f"sqlite:///{path}", registry_uri=f"sqlite:///{path}").search_experiments()
        with closing(sqlite3.connect(path)) as connection:
            # MLflow adds the default experiment, whose artifacts belong beside the new store, when it opens one.
            connection.execute("DELETE FROM experiments")
            connection.commit()
            script = "\n".join(connection.iterdump()) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, script)


if __name__ == "__main__":
    main()
