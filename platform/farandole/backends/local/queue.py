"""The queue: who waits, who is next, who runs. Every change is one transaction; that something runs is known by its
lock.

A job is `running` while its runner holds the job's lock. The runner takes the lock, and notes that it has, within the
transaction that makes the job its own: no job is started twice. Where the note says `running` and the lock is free,
the runner has died; whoever sees that first ends what is left of the job and says so (`reconcile`).
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.backends.local.mlflow_finalizer import finalize_mlflow_run
from farandole.backends.local.spawn import START, inherited_environment, spawn_runner
from farandole.backends.protocol import TERMINAL_STATES
from farandole.backends.records import JobDatabase, JobRecord, insert_record, now
from farandole.errors import SpecError
from farandole.jobdir.locks import try_lock_job
from farandole.jobdir.outcome import read_outcome, read_result
from farandole.jobdir.status import JobState
from farandole.process.locks import Lock, boot_id, start_ticks, try_lock
from farandole.process.orphans import kill_orphans

_SLOTS = 1
"""A training uses all cores by default: two at once would be slower than one after the other."""


@dataclass(frozen=True)
class QueueEntry:
    """A job in the queue.

    Args:
        id: The job's id.
        name: The job's name.
        lane: The lane that it waits or runs in, which is its backend's name.
        directory: The job's directory.
        command: What a runner starts for it.
        priority: The highest first.
        turn: Among equal priorities, the lowest first.
        patience_s: How long it may take to end when it is asked to.
        state: What the notes say; `Queue.reconcile` makes them true.
        reason: Why, in a sentence.
        since: When the state began.
        submitted_at: When it was submitted.
        starts: How often it was started.
        cancel: Whether somebody asked it to end.
        pid: Its newest runner.
        pid_ticks: When that process was started.
        boot: In which boot of the machine.
    """

    id: str
    name: str
    lane: str
    directory: Path
    command: tuple[str, ...]
    priority: int
    turn: int
    patience_s: float
    state: JobState
    reason: str
    since: str
    submitted_at: str
    starts: int
    cancel: bool
    pid: int | None
    pid_ticks: int | None
    boot: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen without a retry."""
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class QueuePosition:
    """Where a job stands in its lane.

    Args:
        before: How many jobs go before it.
        running: The jobs that run.
        slots: How many may.
    """

    before: int
    running: tuple[str, ...]
    slots: int


class Queue:
    """The queue of one `$FARANDOLE_HOME`.

    Args:
        home: That directory.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.records = JobDatabase(home)

    def submit(
        self,
        record: JobRecord,
        directory: Path,
        command: Sequence[str],
        *,
        priority: int = 0,
        patience_s: float = 30.0,
    ) -> None:
        """Put a job at the end of those of its priority. Its directory has all that its command needs."""
        with self.records.transaction() as db:
            insert_record(db, record)
            db.execute(
                "INSERT INTO queue (id, lane, directory, command, priority, turn, patience_s, state, reason, since)"
                " VALUES (?, ?, ?, ?, ?, (SELECT coalesce(max(turn), 0) + 1 FROM queue), ?, 'queued', 'waits', ?)",
                (record.id, record.backend, str(directory), json.dumps(command), priority, patience_s, now()),
            )

    def find(self, job_id: str) -> QueueEntry | None:
        """A job; None: it is not in this queue."""
        with self.records.reading() as db:
            return _find(db, job_id)

    def all(self, lane: str) -> list[QueueEntry]:
        """The jobs of a lane, the newest first."""
        with self.records.reading() as db:
            return [_entry(row) for row in db.execute(f"{_SELECT} WHERE lane = ? ORDER BY number DESC", (lane,))]

    def place(self, entry: QueueEntry) -> QueuePosition:
        """Where a job stands that waits."""
        with self.records.reading() as db:
            before = db.execute(
                "SELECT count(*) FROM queue WHERE lane = ? AND state = 'queued'"
                " AND (priority > ? OR (priority = ? AND turn < ?))",
                (entry.lane, entry.priority, entry.priority, entry.turn),
            ).fetchone()[0]
            return QueuePosition(before, tuple(row["id"] for row in _running(db, entry.lane)), _slots(db, entry.lane))

    def set_slots(self, lane: str, slots: int) -> None:
        """From now on so many jobs of a lane run at once; those that run go on."""
        with self.records.transaction() as db:
            db.execute(
                "INSERT INTO lanes (name, slots) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET slots = excluded.slots",
                (lane, slots),
            )

    def retry(self, job_id: str) -> None:
        """Let a job wait once more.

        Raises:
            SpecError: It has not ended, or has succeeded.
        """
        with self.records.transaction() as db:
            entry = _find(db, job_id)
            if entry is None or entry.state not in ("failed", "cancelled"):
                how = "has succeeded" if entry is not None and entry.state == "succeeded" else "has not ended"
                raise SpecError(f"{job_id}: {how}; only a job that failed or was cancelled is tried again")
            db.execute(
                "UPDATE queue SET state = 'queued', reason = 'waits to be tried again', since = ?, cancel = 0,"
                " turn = (SELECT max(turn) + 1 FROM queue) WHERE id = ?",
                (now(), job_id),
            )

    def request_cancel(self, job_id: str) -> QueueEntry | None:
        """Cancel a job that waits; ask the runner of one that runs to end it. Returns what it was before."""
        with self.records.transaction() as db:
            entry = _find(db, job_id)
            if entry is not None and entry.state == "queued":
                _change(db, entry.id, "cancelled", "cancelled while it waited")
            elif entry is not None and entry.state == "running":
                db.execute("UPDATE queue SET cancel = 1 WHERE id = ?", (job_id,))
        if entry is not None and entry.state == "queued":
            (entry.directory / START).unlink(missing_ok=True)
        return entry

    def kill_runner(self, entry: QueueEntry) -> None:
        """Kill the runner of a job, if that process is still the one that was noted; `reconcile` then buries the job."""
        if entry.pid is not None and entry.boot == boot_id() and start_ticks(entry.pid) == entry.pid_ticks:
            with suppress(ProcessLookupError):
                os.kill(entry.pid, signal.SIGKILL)

    # For runners ----------------------------------------------------------------------------------------------

    def claim(self, lane: str) -> tuple[QueueEntry, Lock] | None:
        """Make the next job this process's own; None: none waits, or all slots are taken."""
        hold: Lock | None = None
        with self.records.transaction() as db:
            if len(_running(db, lane)) >= _slots(db, lane):
                return None
            for row in db.execute(
                f"{_SELECT} WHERE lane = ? AND state = 'queued' ORDER BY priority DESC, turn", (lane,)
            ).fetchall():
                entry = _entry(row)
                try:
                    hold = try_lock_job(entry.directory)
                except FileNotFoundError:
                    _change(db, entry.id, "failed", f"its directory {entry.directory} is gone")
                    continue
                if hold is not None:
                    _change(db, entry.id, "running", "is starting")
                    db.execute(
                        "UPDATE queue SET starts = starts + 1, pid = ?, pid_ticks = ?, boot = ? WHERE id = ?",
                        (os.getpid(), start_ticks(os.getpid()), boot_id(), entry.id),
                    )
                    break
        if hold is None:
            return None
        claimed = self.find(entry.id)
        assert claimed is not None
        return claimed, hold

    def end(self, entry: QueueEntry, state: JobState, reason: str) -> None:
        """Note how a job ended that this process has in hand."""
        with self.records.transaction() as db:
            _change(db, entry.id, state, reason)

    def is_cancel_requested(self, job_id: str) -> bool:
        """Whether somebody wants a job cancelled."""
        with self.records.reading() as db:
            row = db.execute("SELECT cancel FROM queue WHERE id = ?", (job_id,)).fetchone()
            return bool(row["cancel"])

    # For everybody --------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Make the notes true, and see to it that the queue goes on: jobs whose runner has died are ended, whole and
        with a reason; where a job waits and a slot is free, a runner is started. Every command does this first."""
        with self.records.reading() as db:
            running = [_entry(row) for row in db.execute(f"{_SELECT} WHERE state = 'running'")]
        for entry in running:
            self._end_if_dead(entry)
        with self.records.reading() as db:
            lanes = [row["lane"] for row in db.execute("SELECT DISTINCT lane FROM queue WHERE state = 'queued'")]
        for lane in lanes:
            self.wake(lane)

    def wake(self, lane: str) -> None:
        """Start a runner, if a job waits and a slot is free.

        Of many who want to, one does: the runner inherits a lock, and gives it back just before it looks into the
        queue. Who finds the lock taken knows that somebody alive has not looked yet, and so will see what he added.
        """
        with self.records.reading() as db:
            waits = db.execute("SELECT 1 FROM queue WHERE lane = ? AND state = 'queued'", (lane,)).fetchone()
            if not waits or len(_running(db, lane)) >= _slots(db, lane):
                return
        hold = try_lock(self.home / f"jobs.{lane}.waking")
        if hold is None:
            return
        try:
            spawn_runner(self.home, lane, hold.descriptor)
        finally:
            hold.release()

    def _end_if_dead(self, entry: QueueEntry) -> None:
        try:
            hold = try_lock_job(entry.directory)
        except FileNotFoundError:
            self._bury(entry, f"its directory {entry.directory} was removed while it ran")
            return
        if hold is None:
            return  # it lives, or somebody else is about to bury it
        try:
            if entry.boot != boot_id():
                how = "the machine was restarted while it ran"
            else:
                how = f"its runner, process {entry.pid}, was killed"
            is_new = self._bury(entry, how)
        finally:
            hold.release()
        if is_new:
            finalize_mlflow_run(entry.directory, inherited_environment(self.home), cancelled=entry.cancel, held=False)

    def _bury(self, entry: QueueEntry, how: str) -> bool:
        """End what is left of a job whose runner has died. The lock is held, so nobody else does.

        Returns:
            Whether it ended here, before its own end.
        """
        with self.records.reading() as db:
            seen = _find(db, entry.id)
        if seen is None or seen.state != "running" or seen.starts != entry.starts:
            return False  # somebody was faster: it has ended, or is even tried again
        kill_orphans(str(entry.directory))
        (entry.directory / START).unlink(missing_ok=True)
        if read_result(entry.directory) is not None:  # all was done, but for a note of it here
            self.end(entry, "succeeded", read_outcome(entry.directory) or "reached its end")
            return False
        if seen.cancel:
            self.end(entry, "cancelled", how)
        else:
            self.end(entry, "failed", f"{how}; `farandole retry {entry.id}` goes on from its last checkpoint")
        return True


_SELECT = "SELECT queue.*, jobs.name, jobs.submitted_at FROM queue JOIN jobs USING (id)"


def _find(db: sqlite3.Connection, job_id: str) -> QueueEntry | None:
    row = db.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else _entry(row)


def _running(db: sqlite3.Connection, lane: str) -> list[sqlite3.Row]:
    return db.execute("SELECT id FROM queue WHERE lane = ? AND state = 'running' ORDER BY turn", (lane,)).fetchall()


def _slots(db: sqlite3.Connection, lane: str) -> int:
    row = db.execute("SELECT slots FROM lanes WHERE name = ?", (lane,)).fetchone()
    return _SLOTS if row is None else int(row["slots"])


def _change(db: sqlite3.Connection, job_id: str, state: JobState, reason: str) -> None:
    db.execute("UPDATE queue SET state = ?, reason = ?, since = ? WHERE id = ?", (state, reason, now(), job_id))


def _entry(row: sqlite3.Row) -> QueueEntry:
    values: dict[str, Any] = {key: row[key] for key in row.keys()}  # noqa: SIM118 - iterating a row gives its values
    values |= {"directory": Path(row["directory"]), "command": tuple(json.loads(row["command"]))}
    values["cancel"] = bool(row["cancel"])
    return QueueEntry(**values)
