"""What the launcher tells about the job, in the job's second ConfigMap: the API is the only store."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farandole.backends.kubernetes.cluster import Cluster
from farandole.errors import FarandoleError
from farandole.launch.record import read_status

_LOOK_EVERY_S = 1.0
STATUS, RESULT = "status", "result"
"""Keys of the ConfigMap: where the job stands; what it gave."""


class Report:
    """Tells where the job stands, whenever that changes.

    Args:
        cluster: The cluster.
        name: The ConfigMap.
        submission: The number of the submission; what an earlier one told does not count.
    """

    def __init__(self, cluster: Cluster, name: str, submission: int) -> None:
        self._cluster, self._name, self._submission = cluster, name, submission
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: dict[str, Any] = {}

    def before(self) -> dict[str, Any]:
        """What was told before this launcher began."""
        kept = self._cluster.patch("ConfigMap", self._name, {"data": {}}) or {}
        found: dict[str, Any] = json.loads((kept.get("data") or {}).get(STATUS, "{}"))
        return found

    def tell(self, **fields: Any) -> None:
        """Tell something new."""
        wanted = {**self._told, **fields, "submission": self._submission}
        if wanted != self._told:
            self._cluster.patch("ConfigMap", self._name, {"data": {STATUS: json.dumps(wanted)}})
            self._told = wanted

    def result(self, document: dict[str, Any]) -> None:
        """Tell what came of the job."""
        self._cluster.patch("ConfigMap", self._name, {"data": {RESULT: json.dumps(document)}})

    def follow(self, directory: Path, also: Callable[[], dict[str, Any]] = dict) -> None:
        """Begin to tell what the supervisor notes in the job's directory."""
        self._thread = threading.Thread(target=self._follow, args=(directory, also), name="report", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the last word is somebody else's."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self, directory: Path, also: Callable[[], dict[str, Any]]) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                self.look(directory, **also())
            except FarandoleError as error:  # the API is away; the next look tells what is new then
                print(f"warning: {error}", flush=True)

    def look(self, directory: Path, **also: Any) -> None:
        """Tell what the supervisor noted last; how it ended is told at the end, with all that belongs to it."""
        status = read_status(directory)
        if status is None:
            return
        if status["state"] not in ("queued", "running"):
            status |= {"state": "running", "reason": "is ending"}
        self.tell(**{name: value for name, value in status.items() if name not in ("id", "pid")}, **also)
