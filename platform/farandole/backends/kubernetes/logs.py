"""A job's log over all its pods, and over all interruptions of the connection to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from farandole.backends.kubernetes.cluster import ApiError, ApiUnreachableError, Cluster, Object
from farandole.backends.kubernetes.manifests.names import COMPONENT, JOB, LAUNCHER, PREPARE, SUBMISSION
from farandole.backends.kubernetes.pod.rank_logs import RANK_LINE
from farandole.errors import UnavailableError

_POLL_S = 0.3
_PATIENCE_S = 300.0
"""How long the API server may be away while a log is followed."""
_ORDER = (PREPARE, LAUNCHER)


@dataclass
class _Cursor:
    """Position up to which a pod's log has been read.

    Args:
        last: The time of the last line.
        count: The number of lines with this very time.
        complete: Whether no more lines will come.
    """

    last: str | None = None
    count: int = 0
    complete: bool = False


class LogFollower:
    """Reader of a job's log.

    Args:
        cluster: The cluster.
        job_id: The job.
        has_ended: Returns whether the job has ended.
    """

    def __init__(self, cluster: Cluster, job_id: str, has_ended: Callable[[], bool]) -> None:
        self._cluster = replace(cluster, patience_s=_PATIENCE_S)
        self._job_id, self._has_ended = job_id, has_ended
        self._cursors: dict[str, _Cursor] = {}

    def lines(self, rank: int | None, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a worker, or the lines that no worker wrote."""
        for line in self._all(follow=follow):
            match = RANK_LINE.match(line)
            if rank is None and match is None:
                yield line
            elif rank is not None and match is not None and int(match["rank"]) == rank:
                yield match["text"]

    def _all(self, *, follow: bool) -> Iterator[str]:
        while True:
            is_last = not follow or self._has_ended()  # asked before the last look, so that no line is missed
            for pod in self._pods():
                yield from self._of(pod, follow=follow)
            if is_last:
                return
            time.sleep(_POLL_S)

    def _pods(self) -> list[Object]:
        """Return the pods with unread lines, in the order in which they worked."""
        pods = [
            pod
            for pod in self._cluster.find("Pod", f"{JOB}={self._job_id}")
            if pod["metadata"]["labels"].get(COMPONENT) in _ORDER and pod["status"].get("startTime")
        ]
        return [pod for pod in _by_submission(pods) if not self._cursor(pod).complete]

    def _cursor(self, pod: Object) -> _Cursor:
        return self._cursors.setdefault(pod["metadata"]["name"], _Cursor())

    def _of(self, pod: Object, *, follow: bool) -> Iterator[str]:
        """Yield the new lines of one pod; with `follow`, until the pod has ended or the connection breaks."""
        cursor, name = self._cursor(pod), pod["metadata"]["name"]
        ended = pod["status"].get("phase") in ("Succeeded", "Failed")
        try:
            yield from self._new_lines(
                name, cursor, follow=follow and not ended and not self._waits_for_preparation(pod)
            )
        except ApiUnreachableError:  # or no line came for long; the next request shows whether the API is up
            return
        except ApiError as error:
            if error.code == 404:
                cursor.complete = True
            elif error.code == 403:
                raise UnavailableError(
                    f"Kubernetes, namespace {self._cluster.namespace}: the right to get pods/log is missing"
                    f" ({error.message}); have it granted by a Role, for example the submitter's in k8s/base/rbac"
                ) from error
            return  # 400: the container has not started
        cursor.complete = cursor.complete or ended

    def _waits_for_preparation(self, pod: Object) -> bool:
        """Return whether a pod is a launcher that still waits: following its log would hold up the preparation's."""
        if pod["metadata"]["labels"].get(COMPONENT) != LAUNCHER:
            return False
        others = self._cluster.find("Pod", f"{JOB}={self._job_id},{COMPONENT}={PREPARE}")
        return any(each["status"].get("phase") in ("Pending", "Running") for each in others)

    def _new_lines(self, name: str, cursor: _Cursor, *, follow: bool) -> Iterator[str]:
        """Yield the lines after the cursor: the API returns lines from a whole second on."""
        seen = 0
        for stamp, text in self._cluster.log(name, follow=follow, since=cursor.last):
            if cursor.last is not None and stamp < cursor.last:
                continue
            if stamp == cursor.last:
                seen += 1
                if seen <= cursor.count:
                    continue
                cursor.count += 1
            else:
                cursor.last, cursor.count = stamp, 1
                seen = 1
            yield text


def _by_submission(pods: list[Object]) -> list[Object]:
    """Sort pods: the preparation of a submission before its launcher, which is created at the same time."""

    def order(pod: Object) -> tuple[int, int, str]:
        labels = pod["metadata"]["labels"]
        return int(labels.get(SUBMISSION, "1")), _ORDER.index(labels[COMPONENT]), pod["metadata"]["creationTimestamp"]

    return sorted(pods, key=order)
