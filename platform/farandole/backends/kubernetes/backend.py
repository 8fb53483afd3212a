"""The backend `kubernetes`: submits jobs to a cluster, and reports on them from the API's objects."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from farandole.backends.kubernetes.launcher_status import CANCEL
from farandole.backends.kubernetes.localize import localize
from farandole.backends.kubernetes.manifests import CodePackage, Submission, new_id, render
from farandole.backends.kubernetes.manifests.names import CANCELLED, LAUNCHER
from farandole.backends.kubernetes.objects import JobObjects, fetch_all, fetch_objects, fetch_store
from farandole.backends.kubernetes.pending_reason import is_owned_by
from farandole.backends.kubernetes.status import job_status, job_status_or_problem
from farandole.backends.kubernetes.submit import (
    apply_all,
    load_submission,
    new_submission,
    pack_job_folder,
    preload_mlflow,
)
from farandole.backends.protocol import AnyBackend, JobStatus, LocalizedJob, SubmittedJob
from farandole.errors import FarandoleError, SpecError
from farandole.spec import Job

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

_SHOWN_ID = "00000000-000000-0000"
"""Placeholder for the time and the random digits of an id, where objects are only shown."""
_DEFAULT_NAMESPACE = "farandole"
_POLL_S = 0.5
_GRACE_S = 90.0
"""How much longer than its workers a job may take to end: pods have a grace period too."""


class KubernetesBackend:
    """Backend that runs jobs as objects of a cluster.

    Args:
        context: The kubeconfig's context. Default: its current one.
        namespace: The namespace. Default: the context's.
    """

    name: AnyBackend = "kubernetes"

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        self._context, self._namespace = context, namespace

    @classmethod
    def connect(cls, location: Mapping[str, Any], *, slots: int | None = None) -> Self:
        """Return the backend of a context and a namespace; the cluster's queues decide how many jobs run."""
        return cls(location.get("context"), location.get("namespace"))

    @classmethod
    def location_of(cls, job: Job) -> dict[str, Any]:
        """Return the context and the namespace that a job file names."""
        spec = job.backend.kubernetes
        return {"context": spec.context, "namespace": spec.namespace}

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster, which is contacted when it is first needed."""
        from farandole.backends.kubernetes.cluster import connect

        return connect(self._context, self._namespace)

    @property
    def location(self) -> dict[str, Any]:
        """The context and the namespace."""
        return {"context": self.cluster.context, "namespace": self.cluster.namespace}

    def localize(self, job: Job) -> LocalizedJob:
        """Return the job as pods see it."""
        return localize(job)

    def render(self, job: Job) -> list[dict[str, Any]]:
        """Return the objects of a submission, without its keys and its time.

        Raises:
            SpecError: Pods would not reach something that the job names.
        """
        localized = localize(job)
        if localized.problems:
            raise SpecError("\n".join(localized.problems))
        package = pack_job_folder(job)
        code = CodePackage(package.digest, content=package.data, size_bytes=len(package.data))
        shown = f"{new_id(job)[: -len(_SHOWN_ID)]}{_SHOWN_ID}"
        return render(Submission(shown, localized.job, self._namespace or _DEFAULT_NAMESPACE, code))

    def check(self, job: Job) -> list[str]:
        """Return what would prevent the job from running: locations, rights, missing kinds, the queue, the quota."""
        from farandole.backends.kubernetes.preflight import check_job

        localized = localize(job)
        return [*localized.problems, *check_job(self.cluster, localized.job)]

    def submit(self, job: Job) -> SubmittedJob:
        """Create the job's objects; when this returns, the cluster has all of them."""
        preload_mlflow(job)
        problems = self.check(job)
        if problems:
            raise SpecError("\n".join(problems))
        submission = new_submission(job, self.cluster.namespace)
        apply_all(self.cluster, submission)
        return SubmittedJob(submission.id, self.name, submission.mlflow_run_id)

    def status(self, job_id: str) -> JobStatus:
        """Return the state of a job from its present objects."""
        return job_status(fetch_objects(self.cluster, job_id))

    def logs(self, job_id: str, *, rank: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines of the preparation and of the launcher, which also has the output of its workers."""
        from farandole.backends.kubernetes.logs import LogFollower

        fetch_store(self.cluster, job_id)
        return LogFollower(self.cluster, job_id, lambda: self.status(job_id).ended).lines(rank, follow=follow)

    def cancel(self, job_id: str) -> None:
        """End the job. Its objects stay for `ttl_s` seconds, for `status`, `logs` and `retry`."""
        found = fetch_objects(self.cluster, job_id)
        if job_status(found).ended:
            return
        self.cluster.patch("ConfigMap", job_id, {"metadata": {"annotations": {CANCELLED: _now()}}})
        self.cluster.patch("ConfigMap", f"{job_id}-status", {"data": {CANCEL: str(found.submission)}})
        if found.active(LAUNCHER):  # it saves the training's state, frees its workers, and completes its log
            stop_timeout_s = float(found.spec["resources"]["stop_timeout_s"]) + _GRACE_S / 2
            self._wait_until(job_id, lambda now: not now.active(LAUNCHER), stop_timeout_s)
        for each in found.jobs:
            self.cluster.patch("Job", each["metadata"]["name"], {"spec": {"activeDeadlineSeconds": 1}})
        if found.mpi is not None:
            self._suspend_mpijob(found.mpi, found.workloads)
        self.cluster.patch("StatefulSet", f"{job_id}-worker", {"spec": {"replicas": 0}}, part="/scale")
        if not self._wait_until(job_id, lambda now: not now.active(), _GRACE_S):
            active = fetch_objects(self.cluster, job_id).active()
            names = ", ".join(pod["metadata"]["name"] for pod in active)
            raise FarandoleError(
                f"{job_id}: {names} did not end within {_GRACE_S:.0f} s; the node may be down: see `kubectl describe"
                " pod`"
            )

    def retry(self, job_id: str) -> SubmittedJob:
        """Create the Jobs of another submission, with the stored spec, folder and keys."""
        found = fetch_objects(self.cluster, job_id)
        status = job_status(found)
        if not status.ended:
            raise SpecError(f"{job_id}: is {status.state}; only a job that failed or was cancelled can be retried")
        if status.state == "succeeded":
            raise SpecError(f"{job_id}: has succeeded; use `farandole submit` for a new job")
        submission = load_submission(found, found.submission + 1)
        self.cluster.patch("ConfigMap", job_id, {"metadata": {"annotations": {CANCELLED: None}}})
        apply_all(self.cluster, submission, keep_keys=True)
        return SubmittedJob(job_id, self.name, submission.mlflow_run_id)

    def scale(self, job_id: str, workers: int) -> None:
        """Refuse: the launcher of a job in a cluster keeps the number of workers of its spec.

        Raises:
            SpecError: Always.
        """
        raise SpecError(
            f"{job_id}: a job in a cluster cannot be scaled while it runs; `farandole cancel {job_id}`, and submit it"
            f" again with resources.workers: {workers}"
        )

    def list(self) -> list[JobStatus]:
        """Return all jobs of the namespace, newest first."""
        found = map(job_status_or_problem, fetch_all(self.cluster))
        return sorted(found, key=lambda job: job.submitted_at, reverse=True)

    def _wait_until(self, job_id: str, reached: Callable[[JobObjects], bool], timeout_s: float) -> bool:
        """Wait for a state of the job's objects; return whether it was reached in time."""
        deadline_s = time.monotonic() + timeout_s
        while not reached(fetch_objects(self.cluster, job_id)):
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_POLL_S)
        return True

    def _suspend_mpijob(self, mpi: dict[str, Any], workloads: Iterable[dict[str, Any]]) -> None:
        """Suspend an MPIJob: through Kueue if it manages the job, which it would admit again otherwise."""
        for workload in workloads:
            if is_owned_by(workload, mpi):
                self.cluster.patch("Workload", workload["metadata"]["name"], {"spec": {"active": False}})
                return
        self.cluster.patch("MPIJob", mpi["metadata"]["name"], {"spec": {"runPolicy": {"suspend": True}}})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
