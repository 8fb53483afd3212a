"""Reports of a submitted job's own process: its log, its progress, and how it ended."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farandole.events import Event, Progress
from farandole.jobdir.layout import LOG, OUTCOME, PROGRESS, RESULT
from farandole.jobdir.status import timestamp
from farandole.process.atomic import remove_drafts, write_json

_LOG_EVERY_S, _PROGRESS_EVERY_S = 10.0, 1.0


def append_log(directory: Path, text: str) -> None:
    """Append lines to a job's log. A full disk or a removed directory is ignored."""
    with suppress(OSError), (directory / LOG).open("a", encoding="utf-8") as log:
        log.write(_format(text))


class EventLogger:
    """Event handler that writes lines to standard output, which is the job's log, and the newest event to a file.

    Args:
        directory: The job's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stage: str | None = None
        self._logged_s = self._written_s = 0.0
        self._text = ""

    def __call__(self, event: Event) -> None:
        """Write an event; of many in a row, a few. If that fails, as on a full disk, the job continues."""
        with suppress(OSError):
            self._write(event)

    def _write(self, event: Event) -> None:
        now_s = time.monotonic()
        self._stage = getattr(event, "stage", self._stage)
        if not isinstance(event, Progress) or now_s - self._written_s >= _PROGRESS_EVERY_S:
            self._written_s = now_s
            write_json(self._directory / PROGRESS, asdict(JobProgress(self._stage, str(event), timestamp())))
        if isinstance(event, Progress):
            often = event.unit == "rows" or event.text == self._text
            if often and now_s - self._logged_s < _LOG_EVERY_S:
                return
            self._logged_s, self._text = now_s, event.text
        sys.stdout.write(_format(str(event)))
        sys.stdout.flush()


@dataclass(frozen=True)
class JobProgress:
    """The newest event of a job's process.

    Args:
        stage: The current stage; None before the first one.
        text: The event as a line for the reader.
        at: When it happened, in ISO 8601, UTC.
    """

    stage: str | None
    text: str
    at: str


def read_progress(directory: Path) -> JobProgress | None:
    """Return the newest event of a job's process; None before the first one."""
    document = _read(directory / PROGRESS)
    return JobProgress(document["stage"], document["text"], document["at"]) if document else None


def write_outcome(directory: Path, reason: str) -> None:
    """Write why this process ends the job."""
    write_json(directory / OUTCOME, {"reason": reason})


def read_outcome(directory: Path) -> str | None:
    """Return why a job's process ended; None if it did not write it."""
    return _read(directory / OUTCOME).get("reason")


def write_result(directory: Path, document: dict[str, Any]) -> None:
    """Write the result document."""
    write_json(directory / RESULT, document, indent=2)


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
