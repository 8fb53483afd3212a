"""A job in the queue, as the database records it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from farandole.backends.protocol import TERMINAL_STATES
from farandole.jobdir.status import JobState
from farandole.process.identity import ProcessIdentity


@dataclass(frozen=True)
class QueueEntry:
    """A job in the queue.

    Args:
        id: The job's id.
        name: The job's name.
        backend: The name of the backend that has it.
        pool: The pool whose slots it takes: its backend's, or that of its parent.
        directory: The job's directory.
        command: What a runner starts for it.
        priority: The highest starts first.
        turn: Among equal priorities, the lowest starts first.
        stop_timeout_s: How long it may take to end after SIGTERM.
        state: The recorded state; `Queue.reconcile` brings the record up to date.
        reason: One sentence that explains the state.
        since: When the state began.
        submitted_at: When it was submitted.
        starts: How often it was started.
        cancel_requested: Whether its cancellation was requested.
        runner: Its latest runner.
        parent: The id of the sweep that it belongs to.
        parent_process: The process of that sweep, without which it does not continue.
    """

    id: str
    name: str
    backend: str
    pool: str
    directory: Path
    command: tuple[str, ...]
    priority: int
    turn: int
    stop_timeout_s: float
    state: JobState
    reason: str
    since: str
    submitted_at: str
    starts: int
    cancel_requested: bool
    runner: ProcessIdentity | None
    parent: str | None
    parent_process: ProcessIdentity | None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> QueueEntry:
        """Return the entry of a row of the tables `queue` and `jobs`."""
        same = ("id", "name", "backend", "priority", "turn", "state", "reason", "since", "submitted_at", "starts")
        return cls(
            **{name: row[name] for name in (*same, "parent")},
            pool=row["lane"],
            directory=Path(row["directory"]),
            command=tuple(json.loads(row["command"])),
            stop_timeout_s=row["patience_s"],
            cancel_requested=bool(row["cancel"]),
            runner=_process(row["pid"], row["pid_ticks"], row["boot"]),
            parent_process=_process(row["parent_pid"], row["parent_ticks"], row["parent_boot"]),
        )

    @property
    def ended(self) -> bool:
        """True if nothing more happens without a retry."""
        return self.state in TERMINAL_STATES

    @property
    def is_orphan(self) -> bool:
        """True if the job's parent has died."""
        return self.parent_process is not None and not self.parent_process.is_alive


@dataclass(frozen=True)
class QueuePosition:
    """Position of a waiting job in its pool.

    Args:
        jobs_ahead: Number of jobs that start before it.
        running: Ids of the jobs that run.
        slots: Number of jobs that may run at once.
    """

    jobs_ahead: int
    running: tuple[str, ...]
    slots: int


def _process(pid: int | None, ticks: int | None, boot: str | None) -> ProcessIdentity | None:
    return None if pid is None or boot is None else ProcessIdentity(pid, ticks, boot)
