"""A job's state on disk: `status.json`, replaced at each change, and `events.jsonl`, its history."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from farandole.events import EventHandler, Message

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATUS, EVENTS = "status.json", "events.jsonl"
RUNNER_LOCK = "runner.lock"
"""Lies in the directory of a job that was submitted: its runner holds it."""
_PROGRESS_EVERY_S = 1.0
"""Steps may come by thousands a second; the file is for people and `status` commands."""


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Args:
        id: The job's id.
        state: One of five.
        reason: Why it is in this state, in a line.
        attempt: The number of the attempt; 0: none has begun.
        workers: Workers of the attempt.
        hosts: `NAME:SLOTS` of its hosts.
        step: Steps made.
        epoch: Epochs done.
        mlflow_run_id: The job's MLflow run.
        since: When the state began, in ISO 8601, UTC.
        pid: The process that supervises the job.
    """

    id: str
    state: JobState
    reason: str
    attempt: int = 0
    workers: int = 0
    hosts: tuple[str, ...] = ()
    step: int = 0
    epoch: int = 0
    mlflow_run_id: str | None = None
    since: str = ""
    pid: int = 0


class StatusWriter:
    """Writes the state of one job. Where that fails, as on a full disk, the job goes on, and a warning says so.

    Args:
        directory: The job's directory.
        on_event: Is warned.
    """

    def __init__(self, directory: Path, on_event: EventHandler) -> None:
        self._directory, self._watch = directory, on_event
        self._warned = False
        self.status = Status(directory.name, "queued", "waiting for its first attempt", since=_now(), pid=os.getpid())
        self._written_s = 0.0

    def change(self, **fields: Any) -> None:
        """Write what is new. A new state also has a new time."""
        new = replace(self.status, **fields)
        if new == self.status and self._written_s:
            return
        if new.state != self.status.state:
            new = replace(new, since=_now())
        self.status = new
        self._write()

    def progress(self, step: int | None, epoch: int | None, mlflow_run_id: str | None) -> None:
        """The same for what changes all the time: now and then."""
        found: dict[str, Any] = {"step": step, "epoch": epoch, "mlflow_run_id": mlflow_run_id}
        self.status = replace(self.status, **{name: value for name, value in found.items() if value is not None})
        if time.monotonic() - self._written_s >= _PROGRESS_EVERY_S:
            self._write()

    def event(self, name: str, **details: Any) -> None:
        """Add a line to the history."""
        line = json.dumps({"time": _now(), "event": name, **details}) + "\n"
        with self._warning(EVENTS), (self._directory / EVENTS).open("a", encoding="utf-8") as file:
            file.write(line)

    def _write(self) -> None:
        with self._warning(STATUS):
            replace_text(self._directory / STATUS, json.dumps(asdict(self.status), indent=1) + "\n")
        self._written_s = time.monotonic()

    @contextmanager
    def _warning(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                text = f"{self._directory / name}: cannot be written ({error.strerror or error}); the job goes on"
                self._watch(Message(text, level="warning"))


def read_status(directory: Path) -> dict[str, Any] | None:
    """What a job's `status.json` says; None: there is none."""
    try:
        status: dict[str, Any] = json.loads((directory / STATUS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return status


def resume_command(directory: Path) -> str:
    """By which command a job goes on that did not reach its end."""
    submitted = (directory / RUNNER_LOCK).exists()
    return f"farandole retry {directory.name}" if submitted else "farandole train --resume"


def replace_text(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
