"""Reporter of the job's status into the job's second ConfigMap, through which it also learns of a cancellation."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from farandole.backends.kubernetes.cluster import Cluster
from farandole.backends.kubernetes.launcher_status import CANCEL, RESULT, STATUS, LauncherStatus
from farandole.errors import FarandoleError
from farandole.events import Event
from farandole.jobdir.outcome import ProgressTracker
from farandole.jobdir.status import read_status

_POLL_S = 1.0
_CHECK_CANCEL_S = 2.0
_SUPERVISOR_FIELDS = ("state", "reason", "attempt", "workers", "step", "epoch", "since")


class StatusReporter:
    """Thread that reports the state of the job whenever it changes.

    Args:
        cluster: The cluster.
        name: The ConfigMap.
        submission: The number of the submission; reports of earlier ones do not count.
        on_cancel: Called once when this submission is cancelled.
    """

    def __init__(self, cluster: Cluster, name: str, submission: int, on_cancel: Callable[[], None]) -> None:
        self._cluster, self._name, self._submission = cluster, name, submission
        self._on_cancel = on_cancel
        self._directory: Path | None = None
        self._tracker = ProgressTracker()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._status = LauncherStatus(submission)
        self._checked_s = 0.0
        self._thread = threading.Thread(target=self._follow, name="report", daemon=True)

    def __enter__(self) -> StatusReporter:
        """Start; `before` is the latest report of an earlier launcher."""
        data = self._patch({})
        self.before = LauncherStatus.from_json(data.get(STATUS, "{}"))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def report(self, **changes: Any) -> None:
        """Report changed fields of `LauncherStatus`."""
        with self._lock:
            status = replace(self._status, **changes)
            if status != self._status:
                self._patch({STATUS: status.to_json()})
                self._status = status

    def report_result(self, document: dict[str, Any]) -> None:
        """Report the result document."""
        self._patch({RESULT: json.dumps(document)})

    def follow(self, directory: Path) -> None:
        """Report from now on what the supervisor writes into the job's directory."""
        self._directory = directory

    def on_event(self, event: Event) -> None:
        """Take an event of the training into account, for the next report."""
        self._tracker(event)

    def close(self) -> None:
        """Stop the thread; `report` still works."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        while not self._stopped.wait(_POLL_S):
            try:
                self._report_supervisor()
                if time.monotonic() - self._checked_s > _CHECK_CANCEL_S:
                    self._patch({})
            except FarandoleError as error:  # the API is down; the next round reports what is new then
                print(f"warning: {error}", flush=True)

    def _report_supervisor(self) -> None:
        """Report the supervisor's status while it runs; its end is reported at the end, with the result."""
        status = read_status(self._directory) if self._directory is not None else None
        if status is not None and status.state in ("queued", "running"):
            progress = self._tracker.progress if self._tracker.progress.at else None
            self.report(**{name: getattr(status, name) for name in _SUPERVISOR_FIELDS}, progress=progress)

    def _patch(self, data: dict[str, str]) -> dict[str, str]:
        """Change the ConfigMap and return its content, which also says whether the job is cancelled."""
        changed = self._cluster.patch("ConfigMap", self._name, {"data": data}) or {}
        self._checked_s = time.monotonic()
        content: dict[str, str] = changed.get("data") or {}
        if content.get(CANCEL) == str(self._submission):
            on_cancel, self._on_cancel = self._on_cancel, _do_nothing
            on_cancel()
        return content


def _do_nothing() -> None:
    return
