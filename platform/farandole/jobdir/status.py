"""State of a training on disk: `status.json`, replaced at each change, and `events.jsonl`, its history."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from farandole.events import EventHandler, Message
from farandole.jobdir.layout import EVENTS, FOREGROUND, RUNNER_LOCK, STATUS
from farandole.process.atomic import write_json

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_WRITE_EVERY_S = 1.0
"""There may be thousands of steps per second; the file is for people and `status` commands."""


@dataclass(frozen=True)
class Status:
    """The state of a training.

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
    """Writer of the state of one job. If that fails, as on a full disk, the job continues and a warning is emitted.

    Args:
        directory: The job's directory.
        on_event: Receives the warning.
    """

    def __init__(self, directory: Path, on_event: EventHandler) -> None:
        self._directory, self._on_event = directory, on_event
        self._warned = False
        self.status = Status(
            directory.name, "queued", "waiting for its first attempt", since=timestamp(), pid=os.getpid()
        )
        self._written_s = 0.0

    def change(self, **fields: Any) -> None:
        """Write changed fields. A new state also gets a new time."""
        new = replace(self.status, **fields)
        if new == self.status and self._written_s:
            return
        if new.state != self.status.state:
            new = replace(new, since=timestamp())
        self.status = new
        self._write()

    def progress(self, step: int | None, epoch: int | None, mlflow_run_id: str | None) -> None:
        """Update what changes all the time; write it at most once a second."""
        found: dict[str, Any] = {"step": step, "epoch": epoch, "mlflow_run_id": mlflow_run_id}
        self.status = replace(self.status, **{name: value for name, value in found.items() if value is not None})
        if time.monotonic() - self._written_s >= _WRITE_EVERY_S:
            self._write()

    def event(self, name: str, **details: Any) -> None:
        """Append a line to the history."""
        line = json.dumps({"time": timestamp(), "event": name, **details}) + "\n"
        with self._warn_on_error(EVENTS), (self._directory / EVENTS).open("a", encoding="utf-8") as file:
            file.write(line)

    def _write(self) -> None:
        with self._warn_on_error(STATUS):
            write_json(self._directory / STATUS, asdict(self.status), indent=1)
        self._written_s = time.monotonic()

    @contextmanager
    def _warn_on_error(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                text = f"{self._directory / name}: cannot be written ({error.strerror or error}); the job continues"
                self._on_event(Message(text, level="warning"))


def read_status(directory: Path) -> Status | None:
    """Return the state of a training, also if another version of Farandole wrote it; None if there is none."""
    try:
        raw: dict[str, Any] = json.loads((directory / STATUS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    known = {field.name for field in fields(Status)}
    values = {"id": directory.name, "reason": ""} | {name: value for name, value in raw.items() if name in known}
    return Status(**{**values, "hosts": tuple(values.get("hosts", ()))})


def read_history(directory: Path) -> list[dict[str, Any]]:
    """Return the events of a job's history, oldest first.

    A line that is still being written is left out, as is one that a full disk or a kill has cut short.
    """
    try:
        text = (directory / EVENTS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    events = []
    for line in text.splitlines(keepends=True):
        with suppress(ValueError):
            if line.endswith("\n"):
                events.append(json.loads(line))
    return events


def resume_command(directory: Path) -> str:
    """Return the command that resumes a job which has not succeeded."""
    foreground: dict[str, str] = {}
    if not (directory / RUNNER_LOCK).exists():
        with suppress(OSError, ValueError):
            foreground = json.loads((directory / FOREGROUND).read_text(encoding="utf-8"))
    return foreground.get("resume") or f"farandole retry {directory.name}"


def timestamp() -> str:
    """Return the current time in ISO 8601, UTC, in milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
