"""Reports of a job's own process: its log, its progress, and how it ended."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TextIO

from farandole.events import EpochMetrics, Event, Progress, TimeLeft
from farandole.jobdir.layout import LOG, OUTCOME, PROGRESS, RESULT
from farandole.jobdir.status import timestamp
from farandole.process.atomic import remove_drafts, write_atomic, write_json
from farandole.process.json_text import json_text

_LOG_EVERY_S, _PROGRESS_EVERY_S = 10.0, 1.0


def append_log(directory: Path, text: str) -> None:
    """Append lines to a job's log. A full disk or a removed directory is ignored."""
    with suppress(OSError), (directory / LOG).open("a", encoding="utf-8") as log:
        log.write(_format(text))


@dataclass(frozen=True)
class JobProgress:
    """The newest event of a job's process, and how far the job is.

    Args:
        stage: The current stage; None before the first one.
        text: The event as a line for the reader.
        at: When it happened, in ISO 8601, UTC.
        done: Units of the stage that are done.
        total: Units of the stage in all; 0 while unknown.
        unit: What is counted: `rows`, `tasks`, `MB`.
        rows_per_s: Rows per second of wall-clock time.
        left_s: Seconds from `at` to the end of the stage, by its pace so far.
        epoch: Epochs that have been validated.
        epochs: Epochs in all.
        metrics: Metrics of the newest validation.
    """

    stage: str | None
    text: str
    at: str
    done: int = 0
    total: int = 0
    unit: str = ""
    rows_per_s: float | None = None
    left_s: float | None = None
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class ProgressTracker:
    """Event handler that keeps how far the job is."""

    def __init__(self) -> None:
        self.progress = JobProgress(None, "", "")
        self._time_left = TimeLeft()

    def __call__(self, event: Event) -> None:
        """Take an event into account."""
        progress = replace(self.progress, text=str(event), at=timestamp())
        stage = getattr(event, "stage", progress.stage)
        if stage != progress.stage:
            progress = replace(progress, stage=stage, done=0, total=0, unit="", rows_per_s=None, left_s=None)
        if isinstance(event, Progress):
            left_s = self._time_left.update(event, time.monotonic())
            progress = replace(progress, done=event.done, total=event.total, unit=event.unit)
            progress = replace(progress, rows_per_s=event.rows_per_s, left_s=left_s)
        elif isinstance(event, EpochMetrics):
            progress = replace(progress, epoch=event.epoch, epochs=event.epochs, metrics=event.metrics)
        self.progress = progress


class EventLogger:
    """Event handler that writes lines to the job's log, and the newest event to a file.

    Args:
        directory: The job's directory.
        log: The log. Default: standard output, which is the log of a submitted job's process.
    """

    def __init__(self, directory: Path, log: TextIO | None = None) -> None:
        self._directory, self._log = directory, log
        self._tracker = ProgressTracker()
        self._logged_s = self._written_s = 0.0
        self._text = ""

    def __call__(self, event: Event) -> None:
        """Write an event; of many in a row, a few. If that fails, as on a full disk, the job continues."""
        with suppress(OSError):
            self._write(event)

    def _write(self, event: Event) -> None:
        now_s = time.monotonic()
        self._tracker(event)
        if not isinstance(event, Progress) or now_s - self._written_s >= _PROGRESS_EVERY_S:
            self._written_s = now_s
            write_json(self._directory / PROGRESS, asdict(self._tracker.progress))
        if isinstance(event, Progress):
            often = event.unit == "rows" or event.text == self._text
            if often and now_s - self._logged_s < _LOG_EVERY_S:
                return
            self._logged_s, self._text = now_s, event.text
        log = self._log or sys.stdout
        log.write(_format(str(event)))
        log.flush()


def read_progress(directory: Path) -> JobProgress | None:
    """Return the newest event of a job's process, also if another version wrote it; None before the first one."""
    document = _read(directory / PROGRESS)
    known = {each.name for each in fields(JobProgress)}
    return JobProgress(**{name: document[name] for name in document if name in known}) if document else None


def write_outcome(directory: Path, reason: str) -> None:
    """Write why this process ends the job."""
    write_json(directory / OUTCOME, {"reason": reason})


def read_outcome(directory: Path) -> str | None:
    """Return why a job's process ended; None if it did not write it."""
    return _read(directory / OUTCOME).get("reason")


def write_result(directory: Path, document: dict[str, Any]) -> None:
    """Write the result document."""
    write_atomic(directory / RESULT, json_text(document, indent=2) + "\n")


def read_result(directory: Path) -> dict[str, Any] | None:
    """Return the result document of a job that has succeeded; None if there is none."""
    return _read(directory / RESULT) or None


def clear_outcome(directory: Path) -> None:
    """Remove what an earlier start of the job has left, drafts of a killed process included; the log stays."""
    for name in (PROGRESS, OUTCOME, RESULT):
        (directory / name).unlink(missing_ok=True)
    remove_drafts(directory)


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return document


def _format(text: str) -> str:
    return "".join(f"{timestamp()} {line}\n" for line in text.splitlines() or [""])
