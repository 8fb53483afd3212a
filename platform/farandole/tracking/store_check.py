"""Reasons why an MLflow store can never answer; MLflow itself would retry for minutes as if it were away."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from farandole.storage import file_uri, sqlite_path
from farandole.tracking.store import TrackingStore

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_IN_MEMORY = ("", ".", ":memory:")
_PASSING_REFUSALS = ("starting up", "shutting down", "too many", "recovery mode", "remaining connection slots")
"""Messages of a PostgreSQL server that will accept the connection later."""
_MYSQL_REFUSALS = (1044, 1045, 1049)
"""MySQL's codes for a user without rights, a wrong password and an unknown database."""


def find_problem(store: TrackingStore) -> str | None:
    """Return why the store can never answer; None if it can, which does not mean that it does so now.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: A database does not answer now.
    """
    try:
        host = urlsplit(store.uri).hostname
    except ValueError as error:
        return f"{store.shown}: {error}"
    if host and _is_unknown(host):
        return f"there is no host {host}"
    if store.is_server:
        return None
    path = sqlite_path(store.uri)
    return _database_problem(store) if path is None else _file_problem(path)


def _is_unknown(host: str) -> bool:
    """Return True if the host name does not exist, as opposed to a name service that does not answer."""
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME
    except UnicodeError:
        return True  # not a valid host name
    return False


def _file_problem(path: Path) -> str | None:
    """Return why a SQLite file cannot be created or written."""
    if str(path) in _IN_MEMORY:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(f"{file_uri(path)}?mode=rwc", uri=True)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # fails where the file or its folder is read-only
            connection.execute("PRAGMA schema_version")
    except FileExistsError as error:
        return f"{error.filename}: is not a folder"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except sqlite3.DatabaseError as error:
        return None if error.sqlite_errorcode & 0xFF in _BUSY else f"{path}: {error}"
    return None


def _database_problem(store: TrackingStore) -> str | None:
    """Return why a database rejects the connection, or why there is no way to connect to it."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    if "://" not in store.uri or urlsplit(store.uri).scheme.startswith(("file", "databricks", "uc")):
        return None  # a store of MLflow that is not a database
    try:
        engine = sqlalchemy.create_engine(store.uri, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect():
            return None
    except NoSuchModuleError:
        return f"{urlsplit(store.uri).scheme}: there is no database of this kind"
    except ArgumentError as error:
        return " ".join(str(error).split()).replace(store.uri, store.shown)
    except ImportError as error:
        return f"the database driver {error.name} is not installed; install it beside MLflow"
    except DBAPIError as error:
        text = " ".join(str(error.orig).split())
        refused = "FATAL:" in text and not any(reason in text for reason in _PASSING_REFUSALS)
        if refused or next(iter(getattr(error.orig, "args", ())), None) in _MYSQL_REFUSALS:
            return text.rpartition("FATAL:")[2].strip().replace(store.uri, store.shown)
        raise
