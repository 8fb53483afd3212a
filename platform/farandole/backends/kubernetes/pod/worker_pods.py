"""The worker pods as the launcher sees them: how many there are to be, and which of them are ready."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.backends.kubernetes.cluster import Cluster
from farandole.backends.kubernetes.manifests.names import WORKER, selector
from farandole.errors import FarandoleError
from farandole.process.atomic import write_atomic

_LOOK_EVERY_S = 1.0
_GONE_S = 60.0
"""How long their end is waited for: a node may be away."""


@dataclass(frozen=True)
class WorkerPods:
    """The workers of a job.

    Args:
        cluster: Where they run.
        job_id: The job.
        stateful_set: What makes them; None: somebody else does.
        slots: Workers for each pod.
    """

    cluster: Cluster
    job_id: str
    stateful_set: str | None
    slots: int

    def scale(self, pods: int) -> None:
        """Want so many pods; where nobody is asked, or nothing is left to ask for, nothing happens."""
        if self.stateful_set is not None:
            self.cluster.patch("StatefulSet", self.stateful_set, {"spec": {"replicas": pods}}, part="/scale")

    def free(self) -> None:
        """Want none, and wait until they are gone: when a job is told to have ended, no GPU is held any more."""
        self.scale(0)
        due_s = time.monotonic() + _GONE_S
        while self.stateful_set is not None and time.monotonic() < due_s:
            if not self.cluster.find("Pod", selector(self.job_id, WORKER), cached=True):
                return
            time.sleep(_LOOK_EVERY_S / 4)

    def ready(self) -> list[str]:
        """The addresses of the pods that are ready, by the pods' names."""
        pods = self.cluster.find("Pod", selector(self.job_id, WORKER), cached=True)
        return [pod["status"]["podIP"] for pod in sorted(pods, key=_number) if is_ready(pod)]

    def lines(self) -> list[str]:
        """The same as a list of hosts."""
        return [f"{address}:{self.slots}" for address in self.ready()]


class HostFile:
    """A file with the workers that are ready, kept true by a thread.

    Args:
        workers: The workers.
        path: The file.
    """

    def __init__(self, workers: WorkerPods, path: Path) -> None:
        self._workers, self._path = workers, path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="hosts", daemon=True)
        self.count = 0

    def __enter__(self) -> HostFile:
        self._write([])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                self._write(self._workers.lines())
            except FarandoleError as error:  # the API is away: the pods that are known go on
                print(f"warning: {error}", flush=True)

    def _write(self, lines: list[str]) -> None:
        self.count = len(lines)
        write_atomic(self._path, "".join(f"{line}\n" for line in lines))


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod takes work: it is ready, and not about to go."""
    if pod["metadata"].get("deletionTimestamp") or not pod["status"].get("podIP"):
        return False
    conditions = pod["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _number(pod: dict[str, Any]) -> tuple[int, str]:
    name = str(pod["metadata"]["name"])
    tail = name.rpartition("-")[2]
    return (int(tail) if tail.isdigit() else 0, name)
