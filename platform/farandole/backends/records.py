"""Database of the jobs that were submitted from this machine: `$FARANDOLE_HOME/jobs.db`, SQLite, shared by processes.

It records the jobs of every backend, so that an id is enough to find a job. For jobs that wait and run on this machine
it also holds the queue (`local/queue.py`). The database is a record, not the truth: locks decide what is running.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farandole.errors import SpecError, UnavailableError, closest_match
from farandole.jobdir.layout import JOBS
from farandole.jobdir.locks import foreground_directories
from farandole.jobdir.status import timestamp
from farandole.process.locks import wait_for_lock

_BUSY_TIMEOUT_S = 60.0
"""How long a process waits for other writers. They take milliseconds; a slow disk may take longer."""

_MIGRATIONS = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        backend TEXT NOT NULL,
        place TEXT NOT NULL CHECK (json_valid(place)),  -- the location: a cluster's context and namespace
        submitted_at TEXT NOT NULL                      -- ISO 8601, UTC
    ) STRICT;
    CREATE TABLE queue (
        id TEXT PRIMARY KEY REFERENCES jobs (id),
        lane TEXT NOT NULL,                             -- the pool, which has slots of its own
        directory TEXT NOT NULL,
        command TEXT NOT NULL CHECK (json_valid(command)),
        priority INTEGER NOT NULL,
        turn INTEGER NOT NULL UNIQUE,                   -- among equal priorities, the lowest first
        patience_s REAL NOT NULL,                       -- how long the job may take to end after SIGTERM
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
        reason TEXT NOT NULL,
        since TEXT NOT NULL,
        starts INTEGER NOT NULL DEFAULT 0,              -- number of starts: 1, and 1 for each retry
        cancel INTEGER NOT NULL DEFAULT 0,              -- whether the job's cancellation was requested
        pid INTEGER,                                    -- its runner, identified with start time and boot
        pid_ticks INTEGER,
        boot TEXT
    ) STRICT;
    CREATE INDEX queue_order ON queue (lane, state, priority DESC, turn);
    CREATE TABLE lanes (
        name TEXT PRIMARY KEY,
        slots INTEGER NOT NULL CHECK (slots > 0)        -- number of jobs that run at once
    ) STRICT;
    """,
    """
    ALTER TABLE queue ADD COLUMN parent TEXT;           -- the sweep that the job belongs to
    ALTER TABLE queue ADD COLUMN parent_pid INTEGER;    -- the sweep's process, without which the job ends
    ALTER TABLE queue ADD COLUMN parent_ticks INTEGER;
    ALTER TABLE queue ADD COLUMN parent_boot TEXT;
    """,
)
"""One script for each version of the schema; `PRAGMA user_version` counts those that were applied."""


@dataclass(frozen=True)
class JobRecord:
    """A job that was submitted from this machine.

    Args:
        id: The job's id.
        name: The job's name.
        backend: The name of the backend that has it.
        location: What else is needed to find it there: a cluster's context and namespace.
        submitted_at: Time of the submission, ISO 8601, UTC.
    """

    id: str
    name: str
    backend: str
    location: dict[str, Any] = field(default_factory=dict)
    submitted_at: str = ""


class JobDatabase:
    """Database of one `$FARANDOLE_HOME`.

    Args:
        home: That directory. The database is created in it when it is first needed.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "jobs.db"

    def remember(self, record: JobRecord) -> None:
        """Add a job; a job that is already recorded stays as it is."""
        with self.transaction() as db:
            if db.execute("SELECT 1 FROM jobs WHERE id = ?", (record.id,)).fetchone() is None:
                insert_record(db, record)

    def find(self, job_id: str) -> JobRecord:
        """Return the record of a job.

        Raises:
            SpecError: No job with this id was submitted from here; a job in the foreground is suggested as well.
        """
        with self.reading() as db:
            row = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is not None:
            return _record(row)
        close = closest_match(job_id, [*self.ids(), *(each.name for each in foreground_directories())])
        hint = f"did you mean {close}?" if close else "`farandole jobs` lists them; or name its --backend"
        directory = self.home / JOBS / job_id
        if directory.is_dir():
            hint = f"its folder {directory} does not say how it was started"
        raise SpecError(f"{job_id}: no job with this id was run or submitted here; {hint}")

    def all(self) -> list[JobRecord]:
        """Return all jobs, newest first."""
        with self.reading() as db:
            return [_record(row) for row in db.execute("SELECT * FROM jobs ORDER BY number DESC")]

    def locations(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the backends, with their locations, that jobs were submitted to from here."""
        with self.reading() as db:
            rows = db.execute("SELECT DISTINCT backend, place FROM jobs ORDER BY backend, place").fetchall()
        return [(row["backend"], json.loads(row["place"])) for row in rows]

    def ids(self) -> list[str]:
        """Return the ids of all jobs, newest first."""
        with self.reading() as db:
            return [row["id"] for row in db.execute("SELECT id FROM jobs ORDER BY number DESC")]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open an exclusive transaction; an exception in the block rolls it back."""
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for the length of the block. It is cheap, and not shared with threads or child processes.

        Raises:
            UnavailableError: The database cannot be used.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            db = self._connect()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unusable(error) from error
        with contextlib.closing(db):
            try:
                yield db
            except sqlite3.IntegrityError:
                raise
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"{self.path}: cannot be used ({error}); make sure that it is a writable file on a disk with free space, or"
            " set FARANDOLE_HOME to a local directory that you may write to"
        )

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA foreign_keys = ON")
            if _version(db) != len(_MIGRATIONS):
                self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        """Update the schema. One process does it while others wait: several cannot switch to write-ahead logging."""
        lock = wait_for_lock(self.home / "jobs.db.lock")
        try:
            version = _version(db)
            if version > len(_MIGRATIONS):
                raise UnavailableError(
                    f"{self.path}: has version {version} of its schema, and this farandole knows {len(_MIGRATIONS)};"
                    " it was written by a newer one: use that, or another FARANDOLE_HOME"
                )
            if version == 0:
                self.path.chmod(0o600)
                db.execute("PRAGMA journal_mode = WAL")
            for number in range(version, len(_MIGRATIONS)):
                db.executescript(f"BEGIN; {_MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT")
        finally:
            lock.release()


def insert_record(db: sqlite3.Connection, record: JobRecord) -> None:
    """Insert a record within a transaction."""
    db.execute(
        "INSERT INTO jobs (id, name, backend, place, submitted_at) VALUES (?, ?, ?, ?, ?)",
        (record.id, record.name, record.backend, json.dumps(record.location), record.submitted_at or timestamp()),
    )


def _record(row: sqlite3.Row) -> JobRecord:
    return JobRecord(row["id"], row["name"], row["backend"], json.loads(row["place"]), row["submitted_at"])


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
