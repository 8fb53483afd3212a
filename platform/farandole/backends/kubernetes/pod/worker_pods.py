"""The worker pods from the launcher's side: their number, and which of them are ready."""

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

_POLL_S = 1.0
_FREE_TIMEOUT_S = 60.0
"""How long to wait for their end: a node may be down."""


@dataclass(frozen=True)
class WorkerPods:
    """Worker pods of a job.

    Args:
        cluster: The cluster.
        job_id: The job.
        stateful_set: The StatefulSet that creates them; None: an operator creates them.
        slots: Number of workers in each pod.
    """

    cluster: Cluster
    job_id: str
    stateful_set: str | None
    slots: int

    def scale(self, pods: int) -> None:
        """Set the number of pods, unless an operator creates them or the StatefulSet is gone."""
        if self.stateful_set is not None:
            self.cluster.patch("StatefulSet", self.stateful_set, {"spec": {"replicas": pods}}, part="/scale")

    def free(self) -> None:
        """Scale down to no pods and wait until they are gone: a job that has ended holds no GPU."""
        self.scale(0)
        deadline_s = time.monotonic() + _FREE_TIMEOUT_S
        while self.stateful_set is not None and time.monotonic() < deadline_s:
            if not self.cluster.find("Pod", selector(self.job_id, WORKER), cached=True):
                return
            time.sleep(_POLL_S / 4)

    def ready(self) -> list[str]:
        """Return the addresses of the ready pods, in the order of the pods' numbers."""
        pods = self.cluster.find("Pod", selector(self.job_id, WORKER), cached=True)
        return [pod["status"]["podIP"] for pod in sorted(pods, key=_number) if is_ready(pod)]

    def host_lines(self) -> list[str]:
        """Return the ready pods as lines of a hosts file, `ADDRESS:SLOTS`."""
        return [f"{address}:{self.slots}" for address in self.ready()]


class HostFile:
    """File with the ready workers, which a thread keeps up to date.

    Args:
        workers: The workers.
        path: The file.
    """

    def __init__(self, workers: WorkerPods, path: Path) -> None:
        self._workers, self._path = workers, path
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="hosts", daemon=True)
        self.count = 0

    def __enter__(self) -> HostFile:
        self._write([])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _follow(self) -> None:
        while not self._stopped.wait(_POLL_S):
            try:
                self._write(self._workers.host_lines())
            except FarandoleError as error:  # the API is down; the known pods continue
                print(f"warning: {error}", flush=True)

    def _write(self, lines: list[str]) -> None:
        self.count = len(lines)
        write_atomic(self._path, "".join(f"{line}\n" for line in lines))


def is_ready(pod: dict[str, Any]) -> bool:
    """Return whether a pod accepts work: it is ready, and not being deleted."""
    if pod["metadata"].get("deletionTimestamp") or not pod["status"].get("podIP"):
        return False
    conditions = pod["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _number(pod: dict[str, Any]) -> tuple[int, str]:
    name = str(pod["metadata"]["name"])
    tail = name.rpartition("-")[2]
    return (int(tail) if tail.isdigit() else 0, name)
