"""What a job's process leaves in the job's directory for others to read: its log, how far it is, how it ended."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from farandole.backends.records import now
from farandole.events import Event, Progress
from farandole.jobdir.status import replace_text

LOG = "job.log"
"""Stages, progress, failures, of all starts: one line each, with its time."""
PROGRESS = "progress.json"
"""The newest of it, for `status`."""
OUTCOME = "outcome.json"
"""Why the job ended as it did, as its process says."""
RESULT = "result.json"
"""The result document, as `farandole run --json` prints it."""
_LOG_EVERY_S, _PROGRESS_EVERY_S = 10.0, 1.0


def append_log(directory: Path, text: str) -> None:
    """Add a line to a job's log. A disk that is full, or a directory that is gone, keeps nobody from going on."""
    with suppress(OSError), (directory / LOG).open("a", encoding="utf-8") as log:
        log.write(_line(text))


class EventLogger:
    """A watcher that writes lines to standard output, which is the job's log, and the newest into a file.

    Args:
        directory: The job's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stage: str | None = None
        self._logged_s = self._written_s = 0.0
        self._text = ""

    def __call__(self, event: Event) -> None:
        """Tell of an event; of many in a row, a few. Where that fails, as on a full disk, the job goes on."""
        with suppress(OSError):
            self._tell(event)

    def _tell(self, event: Event) -> None:
        now_s = time.monotonic()
        self._stage = getattr(event, "stage", self._stage)
        if not isinstance(event, Progress) or now_s - self._written_s >= _PROGRESS_EVERY_S:
            self._written_s = now_s
            replace_text(
                self._directory / PROGRESS, json.dumps({"stage": self._stage, "text": str(event), "at": now()})
            )
        if isinstance(event, Progress):
            often = event.unit == "rows" or event.text == self._text
            if often and now_s - self._logged_s < _LOG_EVERY_S:
                return
            self._logged_s, self._text = now_s, event.text
        sys.stdout.write(_line(str(event)))
        sys.stdout.flush()


def read_progress(directory: Path) -> dict[str, Any]:
    """What a job's process told last; empty: nothing yet."""
    return _read(directory / PROGRESS)


def write_outcome(directory: Path, reason: str) -> None:
    """Say why this process ends the job."""
    replace_text(directory / OUTCOME, json.dumps({"reason": reason}))


def read_outcome(directory: Path) -> str | None:
    """Why a job's process ended it; None: it did not say."""
    return _read(directory / OUTCOME).get("reason")


def write_result(directory: Path, document: dict[str, Any]) -> None:
    """Keep the result document."""
    replace_text(directory / RESULT, json.dumps(document, indent=2) + "\n")


def read_result(directory: Path) -> dict[str, Any] | None:
    """The result document of a job that has succeeded; None: there is none."""
    return _read(directory / RESULT) or None


def clear_outcome(directory: Path) -> None:
    """What an earlier start told is no longer so."""
    for name in (PROGRESS, OUTCOME, RESULT):
        (directory / name).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return told


def _line(text: str) -> str:
    return "".join(f"{now()} {line}\n" for line in text.splitlines() or [""])
