"""A job's log, over all its pods, and over all interruptions of the connection to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from farandole.backends.kubernetes.cluster import ApiError, ApiUnreachableError, Cluster, Object
from farandole.backends.kubernetes.manifests.names import ATTEMPT, COMPONENT, JOB, LAUNCHER, PREPARE
from farandole.backends.kubernetes.pod.rank_logs import RANK_LINE
from farandole.errors import UnavailableError

_POLL_S = 0.3
_PATIENCE_S = 300.0
"""How long the API server may be away while a log is followed."""
_ORDER = (PREPARE, LAUNCHER)


@dataclass
class _Read:
    """How far a pod's log has been read.

    Args:
        last: The time of the last line.
        count: How many lines of that very time.
        over: Whether nothing more will come.
    """

    last: str | None = None
    count: int = 0
    over: bool = False


class LogFollower:
    """Reads the log of a job.

    Args:
        cluster: The cluster.
        job_id: The job.
        ended: Whether the job has ended.
    """

    def __init__(self, cluster: Cluster, job_id: str, ended: Callable[[], bool]) -> None:
        self._cluster = replace(cluster, patience_s=_PATIENCE_S)
        self._job_id, self._ended = job_id, ended
        self._read: dict[str, _Read] = {}

    def lines(self, rank: int | None, *, follow: bool) -> Iterator[str]:
        """The lines of a worker, or those that no worker wrote."""
        for line in self._all(follow=follow):
            match = RANK_LINE.match(line)
            if rank is None and match is None:
                yield line
            elif rank is not None and match is not None and int(match["rank"]) == rank:
                yield match["text"]

    def _all(self, *, follow: bool) -> Iterator[str]:
        while True:
            over = not follow or self._ended()  # asked before the last look, so that nothing is missed
            for pod in self._pods():
                yield from self._of(pod, follow=follow)
            if over:
                return
            time.sleep(_POLL_S)

    def _pods(self) -> list[Object]:
        """Pods whose log is not read to its end, in the order in which they worked."""
        pods = [
            pod
            for pod in self._cluster.find("Pod", f"{JOB}={self._job_id}")
            if pod["metadata"]["labels"].get(COMPONENT) in _ORDER and pod["status"].get("startTime")
        ]
        return [pod for pod in _by_submission(pods) if not self._reading(pod).over]

    def _reading(self, pod: Object) -> _Read:
        return self._read.setdefault(pod["metadata"]["name"], _Read())

    def _of(self, pod: Object, *, follow: bool) -> Iterator[str]:
        """What is new in one pod's log; with `follow`, until the pod has ended or the connection breaks."""
        read, name = self._reading(pod), pod["metadata"]["name"]
        ended = pod["status"].get("phase") in ("Succeeded", "Failed")
        try:
            yield from self._new_lines(name, read, follow=follow and not ended and not self._must_look_elsewhere(pod))
        except ApiUnreachableError:  # or the log was silent for long; the next question tells whether the API is there
            return
        except ApiError as answer:
            if answer.code == 404:
                read.over = True
            elif answer.code == 403:
                raise UnavailableError(
                    f"Kubernetes, namespace {self._cluster.namespace}: the right to get pods/log is missing"
                    f" ({answer.message}); have it granted by a Role, for example the submitter's in k8s/base/rbac"
                ) from answer
            return  # 400: its container has not started
        read.over = read.over or ended

    def _must_look_elsewhere(self, pod: Object) -> bool:
        """Whether the launcher only waits while the preparation works: who follows the one would not see the other."""
        if pod["metadata"]["labels"].get(COMPONENT) != LAUNCHER:
            return False
        others = self._cluster.find("Pod", f"{JOB}={self._job_id},{COMPONENT}={PREPARE}")
        return any(each["status"].get("phase") in ("Pending", "Running") for each in others)

    def _new_lines(self, name: str, read: _Read, *, follow: bool) -> Iterator[str]:
        """Lines that were not read yet: the API can only be asked for those from a second on."""
        seen = 0
        for stamp, text in self._cluster.log(name, follow=follow, since=read.last):
            if read.last is not None and stamp < read.last:
                continue
            if stamp == read.last:
                seen += 1
                if seen <= read.count:
                    continue
                read.count += 1
            else:
                read.last, read.count = stamp, 1
                seen = 1
            yield text


def _by_submission(pods: list[Object]) -> list[Object]:
    """The preparation of a submission before its launcher, which is made at the same time."""

    def place(pod: Object) -> tuple[int, int, str]:
        marked = pod["metadata"]["labels"]
        return int(marked.get(ATTEMPT, "1")), _ORDER.index(marked[COMPONENT]), pod["metadata"]["creationTimestamp"]

    return sorted(pods, key=place)
