"""What the launcher tells about the job, in the job's second ConfigMap, where it also hears whether it shall end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farandole.backends.kubernetes.cluster import Cluster
from farandole.backends.kubernetes.report_keys import CANCEL, RESULT, STATUS
from farandole.errors import FarandoleError
from farandole.jobdir.status import read_status

_LOOK_EVERY_S = 1.0
_ASK_EVERY_S = 2.0
_OF_SUPERVISOR = ("state", "reason", "attempt", "workers", "step", "epoch", "since")


class StatusReporter:
    """Tells where the job stands, whenever that changes.

    Args:
        cluster: The cluster.
        name: The ConfigMap.
        submission: The number of the submission; what an earlier one told does not count.
        cancelled: Is called once when somebody cancels this submission.
    """

    def __init__(self, cluster: Cluster, name: str, submission: int, cancelled: Callable[[], None]) -> None:
        self._cluster, self._name, self._submission = cluster, name, submission
        self._cancelled = cancelled
        self._directory: Path | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._told: dict[str, Any] = {}
        self._asked_s = 0.0
        self._thread = threading.Thread(target=self._follow, name="report", daemon=True)

    def __enter__(self) -> StatusReporter:
        """Begin; what an earlier launcher told is `before`."""
        kept = self._patch({})
        self.before: dict[str, Any] = json.loads(kept.get(STATUS, "{}"))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, **fields: Any) -> None:
        """Tell something new."""
        with self._lock:
            wanted = {**self._told, **fields, "submission": self._submission}
            if wanted != self._told:
                self._patch({STATUS: json.dumps(wanted)})
                self._told = wanted

    def result(self, document: dict[str, Any]) -> None:
        """Tell what came of the job."""
        self._patch({RESULT: json.dumps(document)})

    def follow(self, directory: Path) -> None:
        """From now on tell what the supervisor notes in the job's directory."""
        self._directory = directory

    def close(self) -> None:
        """Only tell what is told by `tell`."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                self._look()
                if time.monotonic() - self._asked_s > _ASK_EVERY_S:
                    self._patch({})
            except FarandoleError as error:  # the API is away; the next look tells what is new then
                print(f"warning: {error}", flush=True)

    def _look(self) -> None:
        """How the supervisor ended is told at the end, with all that belongs to it."""
        status = read_status(self._directory) if self._directory is not None else None
        if status is not None and status["state"] in ("queued", "running"):
            self.tell(**{name: status[name] for name in _OF_SUPERVISOR if name in status})

    def _patch(self, data: dict[str, str]) -> dict[str, str]:
        """Change the ConfigMap; its content comes back, and with it whether the job is cancelled."""
        kept = self._cluster.patch("ConfigMap", self._name, {"data": data}) or {}
        self._asked_s = time.monotonic()
        found: dict[str, str] = kept.get("data") or {}
        if found.get(CANCEL) == str(self._submission):
            heard, self._cancelled = self._cancelled, _nothing
            heard()
        return found


def _nothing() -> None:
    return
