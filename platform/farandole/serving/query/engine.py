"""DuckDB in memory, without access to files, the network, extensions, or Python's variables."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

_SETTINGS = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "temp_directory": "",
}


class Engine:
    """The lookup tables and one statement over them and the rows of a request.

    Threads may use it at the same time.

    Args:
        sql: The statement.
        lookups: Table to its rows.
        memory: The most memory that it may use, for example `1GiB`.
        threads: The threads of each execution.
    """

    def __init__(self, sql: str, lookups: Mapping[str, pa.Table], *, memory: str, threads: int) -> None:
        config: dict[str, Any] = {**_SETTINGS, "memory_limit": memory, "threads": threads}
        self._database = duckdb.connect(":memory:", config=config)
        self._sql = sql
        for name, table in lookups.items():
            self._database.register("copied", table)
            self._database.execute(f'CREATE TABLE "{name}" AS SELECT * FROM copied')
            self._database.unregister("copied")
        self._database.execute("SET lock_configuration = true")
        self._own = threading.local()

    def run(self, rows_name: str, rows: pa.Table) -> pa.Table:
        """Execute the statement.

        Args:
            rows_name: The name of the rows in the statement.
            rows: The rows.

        Raises:
            duckdb.Error: A value of the rows does not fit.
        """
        cursor = getattr(self._own, "cursor", None)
        if cursor is None:
            cursor = self._own.cursor = self._database.cursor()
        cursor.register(rows_name, rows)
        try:
            return cursor.execute(self._sql).to_arrow_table()
        finally:
            cursor.unregister(rows_name)
