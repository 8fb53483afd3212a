"""The queue: which jobs wait, which one is next, which ones run.

Every change is one transaction, and a job's lock decides whether it runs: a job is `running` while its runner holds the
lock. The runner takes the lock, and records that it has, within the transaction that claims the job, so no job is
started twice. Where the database says `running` and the lock is free, the runner has died; the first process that
notices ends what is left of the job and records the failure (`Queue.reconcile`).
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from farandole.backends.local.queue_entry import QueueEntry, QueuePosition
from farandole.backends.local.spawn import finalize_mlflow_run, inherited_environment, spawn_runner
from farandole.backends.records import JobDatabase, JobRecord, insert_record
from farandole.errors import SpecError
from farandole.jobdir.launch_context import remove_launch_context
from farandole.jobdir.locks import try_lock_job
from farandole.jobdir.outcome import read_outcome, read_result
from farandole.jobdir.status import JobState, timestamp
from farandole.process.identity import ProcessIdentity
from farandole.process.locks import Lock, boot_id, try_lock
from farandole.process.orphans import kill_orphans

_DEFAULT_SLOTS = 1
"""A training uses all cores by default: two at once would be slower than one after the other."""


class Queue:
    """The queue of one `$FARANDOLE_HOME`.

    Args:
        home: That directory.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = JobDatabase(home)

    def submit(
        self,
        record: JobRecord,
        directory: Path,
        command: Sequence[str],
        *,
        priority: int = 0,
        stop_timeout_s: float = 30.0,
        pool: str | None = None,
        parent: str | None = None,
    ) -> None:
        """Append a job to those of its priority.

        Args:
            record: The job.
            directory: The job's directory, with everything that its command needs.
            command: What a runner starts for it.
            priority: The highest starts first.
            stop_timeout_s: How long it may take to end after SIGTERM.
            pool: The pool whose slots it takes. Default: its backend's.
            parent: The id of the sweep that this process is, and the job belongs to: it is cancelled when this process
                ends.
        """
        owner = ProcessIdentity.current() if parent is not None else None
        identity = (owner.pid, owner.ticks, owner.boot) if owner is not None else (None, None, None)
        with self.database.transaction() as db:
            insert_record(db, record)
            db.execute(
                "INSERT INTO queue (id, lane, directory, command, priority, turn, patience_s, state, reason, since,"
                " parent, parent_pid, parent_ticks, parent_boot)"
                " VALUES (?, ?, ?, ?, ?, (SELECT coalesce(max(turn), 0) + 1 FROM queue), ?, 'queued', 'waits', ?, ?, ?,"
                " ?, ?)",
                (
                    record.id,
                    pool or record.backend,
                    str(directory),
                    json.dumps(command),
                    priority,
                    stop_timeout_s,
                    timestamp(),
                    parent,
                    *identity,
                ),
            )

    def find(self, job_id: str) -> QueueEntry | None:
        """Return a job; None if it is not in this queue."""
        with self.database.reading() as db:
            return _find(db, job_id)

    def all(self, backend: str) -> list[QueueEntry]:
        """Return the jobs of a backend, newest first."""
        with self.database.reading() as db:
            return [
                QueueEntry.from_row(row)
                for row in db.execute(f"{_SELECT} WHERE backend = ? ORDER BY number DESC", (backend,))
            ]

    def position(self, entry: QueueEntry) -> QueuePosition:
        """Return the position of a waiting job."""
        with self.database.reading() as db:
            jobs_ahead = db.execute(
                "SELECT count(*) FROM queue WHERE lane = ? AND state = 'queued'"
                " AND (priority > ? OR (priority = ? AND turn < ?))",
                (entry.pool, entry.priority, entry.priority, entry.turn),
            ).fetchone()[0]
            return QueuePosition(jobs_ahead, tuple(_running(db, entry.pool)), _slots(db, entry.pool))

    def set_slots(self, pool: str, slots: int) -> None:
        """Set the number of a pool's jobs that run at once from now on; running jobs continue."""
        with self.database.transaction() as db:
            db.execute(
                "INSERT INTO lanes (name, slots) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET slots = excluded.slots",
                (pool, slots),
            )

    def remove_pool(self, pool: str) -> None:
        """Forget the number of slots of a pool that gets no more jobs."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM lanes WHERE name = ?", (pool,))
        self._wake_lock(pool).unlink(missing_ok=True)

    def retry(self, job_id: str) -> None:
        """Let a job wait again, in the pool of its backend, without a parent.

        Raises:
            SpecError: It has not ended, or has succeeded.
        """
        with self.database.transaction() as db:
            entry = _find(db, job_id)
            if entry is None or entry.state not in ("failed", "cancelled"):
                state = "has succeeded" if entry is not None and entry.state == "succeeded" else "has not ended"
                raise SpecError(f"{job_id}: {state}; only a job that failed or was cancelled can be retried")
            db.execute(
                "UPDATE queue SET state = 'queued', reason = 'waits to be retried', since = ?, cancel = 0, lane = ?,"
                " parent_pid = NULL, parent_ticks = NULL, parent_boot = NULL,"
                " turn = (SELECT max(turn) + 1 FROM queue) WHERE id = ?",
                (timestamp(), entry.backend, job_id),
            )

    def request_cancel(self, job_id: str) -> QueueEntry | None:
        """Cancel a waiting job, or ask the runner of a running one to end it; return the job as it was before."""
        with self.database.transaction() as db:
            entry = _find(db, job_id)
            if entry is not None and entry.state == "queued":
                _set_state(db, entry.id, "cancelled", "cancelled while it waited")
            elif entry is not None and entry.state == "running":
                db.execute("UPDATE queue SET cancel = 1 WHERE id = ?", (job_id,))
        if entry is not None and entry.state == "queued":
            remove_launch_context(entry.directory)
        return entry

    def kill_runner(self, entry: QueueEntry) -> None:
        """Kill the runner of a job, if it still exists; `reconcile` then ends the job."""
        if entry.runner is not None and entry.runner.is_alive:
            with suppress(ProcessLookupError):
                os.kill(entry.runner.pid, signal.SIGKILL)

    # For runners ----------------------------------------------------------------------------------------------

    def claim(self, pool: str) -> tuple[QueueEntry, Lock] | None:
        """Claim the next job for this process.

        Returns:
            The job and its lock; None: no job waits, or all slots are taken.
        """
        lock: Lock | None = None
        with self.database.transaction() as db:
            if len(_running(db, pool)) >= _slots(db, pool):
                return None
            for row in db.execute(
                f"{_SELECT} WHERE lane = ? AND state = 'queued' ORDER BY priority DESC, turn", (pool,)
            ).fetchall():
                entry = QueueEntry.from_row(row)
                if entry.is_orphan:
                    _cancel_orphan(db, entry)
                    continue
                try:
                    lock = try_lock_job(entry.directory)
                except FileNotFoundError:
                    _set_state(db, entry.id, "failed", f"its directory {entry.directory} is gone")
                    continue
                if lock is not None:
                    _record_start(db, entry.id)
                    break
        if lock is None:
            return None
        claimed = self.find(entry.id)
        assert claimed is not None
        return claimed, lock

    def finish(self, entry: QueueEntry, state: JobState, reason: str) -> None:
        """Record how a job ended whose lock this process holds."""
        with self.database.transaction() as db:
            _set_state(db, entry.id, state, reason)

    def is_cancel_requested(self, job_id: str) -> bool:
        """Return whether a running job is to be cancelled: by request, or since its parent has died."""
        entry = self.find(job_id)
        return entry is not None and (entry.cancel_requested or entry.is_orphan)

    # For every process ----------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Bring the record up to date and keep the queue moving; every command does this first.

        Jobs whose runner has died are ended completely, with a reason. Where a job waits and a slot is free, a runner
        is started.
        """
        with self.database.reading() as db:
            running = [QueueEntry.from_row(row) for row in db.execute(f"{_SELECT} WHERE state = 'running'")]
        for entry in running:
            self._end_if_dead(entry)
        with self.database.reading() as db:
            pools = [row["lane"] for row in db.execute("SELECT DISTINCT lane FROM queue WHERE state = 'queued'")]
        for pool in pools:
            self.wake_runner(pool)

    def wake_runner(self, pool: str) -> None:
        """Start a runner, if a job waits and a slot is free.

        Of several processes that want to, one does: the runner inherits a lock, and releases it just before it looks
        into the queue. A process that finds the lock taken knows that a living runner has yet to look, and will see
        the job that this process has added.
        """
        with self.database.reading() as db:
            waiting = db.execute("SELECT 1 FROM queue WHERE lane = ? AND state = 'queued'", (pool,)).fetchone()
            if not waiting or len(_running(db, pool)) >= _slots(db, pool):
                return
        lock = try_lock(self._wake_lock(pool))
        if lock is None:
            return
        try:
            spawn_runner(self.home, pool, lock.descriptor)
        finally:
            lock.release()

    def _wake_lock(self, pool: str) -> Path:
        return self.home / f"jobs.{pool}.waking"

    def _end_if_dead(self, entry: QueueEntry) -> None:
        try:
            lock = try_lock_job(entry.directory)
        except FileNotFoundError:
            self._record_death(entry, f"its directory {entry.directory} was removed while it ran")
            return
        if lock is None:
            return  # its runner lives, or another process is about to end the job
        try:
            if entry.runner is None or entry.runner.boot != boot_id():
                cause = "the machine was restarted while it ran"
            else:
                cause = f"its runner, process {entry.runner.pid}, was killed"
            ended_here = self._record_death(entry, cause)
        finally:
            lock.release()
        if ended_here:
            cancelled = entry.cancel_requested or entry.is_orphan
            variables = inherited_environment(self.home)
            finalize_mlflow_run(entry.directory, variables, cancelled=cancelled, job_is_locked=False)

    def _record_death(self, entry: QueueEntry, cause: str) -> bool:
        """End what is left of a job whose runner has died. The caller holds the job's lock.

        Returns:
            Whether the job ended by this call, before it had completed.
        """
        with self.database.reading() as db:
            current = _find(db, entry.id)
        if current is None or current.state != "running" or current.starts != entry.starts:
            return False  # another process was faster: the job has ended, or is even being retried
        kill_orphans(str(entry.directory))
        remove_launch_context(entry.directory)
        if read_result(entry.directory) is not None:  # complete, except for this record
            self.finish(entry, "succeeded", read_outcome(entry.directory) or "completed")
            return False
        if current.cancel_requested or current.is_orphan:
            self.finish(entry, "cancelled", cause)
        else:
            self.finish(entry, "failed", f"{cause}; `farandole retry {entry.id}` resumes it from its last checkpoint")
        return True


_SELECT = "SELECT queue.*, jobs.name, jobs.backend, jobs.submitted_at, jobs.number FROM queue JOIN jobs USING (id)"


def _find(db: sqlite3.Connection, job_id: str) -> QueueEntry | None:
    row = db.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else QueueEntry.from_row(row)


def _running(db: sqlite3.Connection, pool: str) -> list[str]:
    rows = db.execute("SELECT id FROM queue WHERE lane = ? AND state = 'running' ORDER BY turn", (pool,))
    return [row["id"] for row in rows]


def _slots(db: sqlite3.Connection, pool: str) -> int:
    row = db.execute("SELECT slots FROM lanes WHERE name = ?", (pool,)).fetchone()
    return _DEFAULT_SLOTS if row is None else int(row["slots"])


def _set_state(db: sqlite3.Connection, job_id: str, state: JobState, reason: str) -> None:
    db.execute("UPDATE queue SET state = ?, reason = ?, since = ? WHERE id = ?", (state, reason, timestamp(), job_id))


def _record_start(db: sqlite3.Connection, job_id: str) -> None:
    runner = ProcessIdentity.current()
    _set_state(db, job_id, "running", "is starting")
    db.execute(
        "UPDATE queue SET starts = starts + 1, pid = ?, pid_ticks = ?, boot = ? WHERE id = ?",
        (runner.pid, runner.ticks, runner.boot, job_id),
    )


def _cancel_orphan(db: sqlite3.Connection, entry: QueueEntry) -> None:
    _set_state(db, entry.id, "cancelled", f"the sweep {entry.parent} ended before it started")
    remove_launch_context(entry.directory)
