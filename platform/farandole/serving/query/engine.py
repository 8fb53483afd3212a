"""DuckDB in memory, without access to files, the network, extensions, or Python's variables."""

from __future__ import annotations

import threading
import warnings
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
    """One statement over tables that stay and tables that are given to each execution.

    Threads may use it at the same time.

    Args:
        sql: The statement.
        tables: Table that stays to its rows.
        memory: The most memory that it may use, for example `1GiB`.
        threads: The threads of each execution.
    """

    def __init__(self, sql: str, tables: Mapping[str, pa.Table], *, memory: str, threads: int) -> None:
        config: dict[str, Any] = {**_SETTINGS, "memory_limit": memory, "threads": threads}
        self._database = duckdb.connect(":memory:", config=config)
        self._sql = sql
        for name, table in tables.items():
            self._database.register("copied", table)
            self._database.execute(f'CREATE TABLE "{name}" AS SELECT * FROM copied')
            self._database.unregister("copied")
        self._database.execute("SET lock_configuration = true")
        self._own = threading.local()

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """Execute the statement.

        Args:
            tables: Table to its rows, for this execution.

        Raises:
            duckdb.Error: A value of the rows does not fit.
        """
        cursor = getattr(self._own, "cursor", None)
        if cursor is None:
            cursor = self._own.cursor = self._database.cursor()
        for name, table in tables.items():
            cursor.register(name, table)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about a copy: the other way to execute a statement plans it twice
                return cursor.execute(self._sql).to_arrow_table()
        except duckdb.Error:
            self._own.cursor = None  # its transaction has failed
            raise
        finally:
            for name in tables if getattr(self._own, "cursor", None) is not None else ():
                cursor.unregister(name)
