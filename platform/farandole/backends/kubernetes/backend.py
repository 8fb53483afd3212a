"""Submits jobs to a cluster, and tells about them what the API says."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from farandole.backends.kubernetes.localize import localize
from farandole.backends.kubernetes.manifests import CodePackage, Submission, new_id, render
from farandole.backends.kubernetes.manifests.names import (
    ATTEMPT,
    CANCELLED,
    COMPONENT,
    JOB,
    LAUNCHER,
    MANAGER,
    STORE,
    WORKER,
)
from farandole.backends.kubernetes.status import JobObjects, job_status
from farandole.backends.kubernetes.submit import load_submission, pack_job_folder
from farandole.backends.protocol import JobStatus, LocalizedJob, SubmittedJob
from farandole.errors import FarandoleError, SpecError, closest_match
from farandole.jobdir.layout import SPEC
from farandole.spec import Job
from farandole.spec.backend import BackendName

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

_SHOWN_ID = "00000000-000000-0000"
"""In place of the time and the random digits of an id, where objects are only shown."""
_DEFAULT_NAMESPACE = "farandole"
_POLL_S = 0.5
_ENDS_S = 90.0
"""How much longer than its workers a job may take to end: pods have their own patience."""


class KubernetesBackend:
    """Jobs as objects of a cluster.

    Args:
        context: The kubeconfig's context. Default: its current one.
        namespace: The namespace. Default: the context's.
    """

    name: BackendName = "kubernetes"

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        self._context, self._namespace = context, namespace

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster."""
        from farandole.backends.kubernetes.cluster import connect

        return connect(self._context, self._namespace)

    @classmethod
    def connect(cls, location: Mapping[str, Any], *, slots: int | None = None) -> Self:
        """Return the backend of a context and a namespace; a cluster's queue has its own slots."""
        return cls(location.get("context"), location.get("namespace"))

    @classmethod
    def location_of(cls, job: Job) -> dict[str, Any]:
        """Return the context and the namespace that a job file names."""
        spec = job.backend.kubernetes
        return {"context": spec.context, "namespace": spec.namespace}

    @property
    def location(self) -> dict[str, Any]:
        """The context and the namespace."""
        return {"context": self.cluster.context, "namespace": self.cluster.namespace}

    def localize(self, job: Job) -> LocalizedJob:
        """Return the job as pods see it."""
        return localize(job)

    def render(self, job: Job) -> list[dict[str, Any]]:
        """The objects of a submission, but for its keys and its time.

        Raises:
            SpecError: Pods would not find something that the job names.
        """
        moved = localize(job)
        if moved.problems:
            raise SpecError("\n".join(moved.problems))
        package = pack_job_folder(job)
        code = CodePackage(package.digest, content=package.data, size_bytes=len(package.data))
        shown = f"{new_id(job)[: -len(_SHOWN_ID)]}{_SHOWN_ID}"
        return render(Submission(shown, moved.job, self._namespace or _DEFAULT_NAMESPACE, code))

    def check(self, job: Job) -> list[str]:
        """What would keep the job from running in this cluster: places, rights, kinds, the queue, the quota."""
        from farandole.backends.kubernetes.preflight import check_job

        moved = localize(job)
        return [*moved.problems, *check_job(self.cluster, moved.job)]

    def submit(self, job: Job) -> SubmittedJob:
        """Make the job's objects; when this returns, the cluster has them all."""
        from farandole.backends.kubernetes.submit import apply_all, new_submission, preload_mlflow

        preload_mlflow(job)
        problems = self.check(job)
        if problems:
            raise SpecError("\n".join(problems))
        submission = new_submission(job, self.cluster.namespace)
        apply_all(self.cluster, submission)
        return SubmittedJob(submission.id, self.name, submission.mlflow_run_id)

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands, from its objects as they are now."""
        return job_status(self._found(job_id))

    def logs(self, job_id: str, *, rank: int | None = None, follow: bool = False) -> Iterator[str]:
        """Lines of the preparation and of the launcher, which also has what its workers write."""
        from farandole.backends.kubernetes.logs import LogFollower

        self._store(job_id)
        return LogFollower(self.cluster, job_id, lambda: self.status(job_id).ended).lines(rank, follow=follow)

    def cancel(self, job_id: str) -> None:
        """End the job; its objects stay until their time is over, for `status`, `logs` and `retry`."""
        from farandole.backends.kubernetes.report_keys import CANCEL

        found = self._found(job_id)
        if job_status(found).ended:
            return
        noted = {"metadata": {"annotations": {CANCELLED: _now()}}}
        self.cluster.patch("ConfigMap", job_id, noted)
        self.cluster.patch("ConfigMap", f"{job_id}-status", {"data": {CANCEL: str(found.attempt)}})
        patience_s = _stop_timeout_s(found)
        if found.active(LAUNCHER):  # it saves the state, frees its workers, and leaves its log
            self._until(job_id, lambda now: not now.active(LAUNCHER), patience_s)
        for each in found.jobs:
            self.cluster.patch("Job", each["metadata"]["name"], {"spec": {"activeDeadlineSeconds": 1}})
        if found.mpi is not None:
            self._stop_mpi(found)
        self.cluster.patch("StatefulSet", f"{job_id}-worker", {"spec": {"replicas": 0}}, part="/scale")
        if not self._until(job_id, lambda now: not now.active(), _ENDS_S):
            left = ", ".join(pod["metadata"]["name"] for pod in self._found(job_id).active())
            raise FarandoleError(
                f"{job_id}: {left} did not end within {_ENDS_S:.0f} s; its node may be away: `kubectl describe pod`"
            )

    def retry(self, job_id: str) -> SubmittedJob:
        """Make the Jobs of another submission, with the spec, the folder and the keys that are there."""
        from farandole.backends.kubernetes.submit import apply_all

        found = self._found(job_id)
        status = job_status(found)
        if not status.ended:
            raise SpecError(f"{job_id}: is {status.state}; only a job that failed or was cancelled is tried again")
        if status.state == "succeeded":
            raise SpecError(f"{job_id}: has succeeded; `farandole submit` makes a new job")
        submission = load_submission(found, found.attempt + 1)
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
        """All jobs of the namespace, newest first."""
        ours = f"app.kubernetes.io/managed-by={MANAGER}"
        maps = self.cluster.find("ConfigMap", ours)
        jobs, pods, mpis = (self.cluster.find(kind, ours) for kind in ("Job", "Pod", "MPIJob"))
        workloads = self.cluster.find("Workload") if mpis else []
        told = {each["metadata"]["labels"][JOB]: each for each in maps if _component(each) == "status"}
        found = [
            JobObjects(
                store,
                dict(told.get(_job(store), {}).get("data") or {}),
                [each for each in jobs if _job(each) == _job(store)],
                [each for each in pods if _job(each) == _job(store)],
                next((each for each in mpis if _job(each) == _job(store) and _attempt(each) == _attempt(store)), None),
                workloads,
            )
            for store in maps
            if _component(store) == STORE
        ]
        return sorted(map(job_status, found), key=lambda job: job.submitted_at, reverse=True)

    # ---------------------------------------------------------------------------------------------------------

    def _store(self, job_id: str) -> dict[str, Any]:
        """The object that holds the job.

        Raises:
            SpecError: There is none.
        """
        store = self.cluster.get("ConfigMap", job_id)
        if store is not None and _component(store) == STORE:
            return store
        known = [each["metadata"]["name"] for each in self.cluster.find("ConfigMap", f"{COMPONENT}={STORE}")]
        close = closest_match(job_id, known)
        hint = f"did you mean {close}?" if close else "`farandole jobs --backend kubernetes` lists them"
        raise SpecError(f"{job_id}: there is no such job in the namespace {self.cluster.namespace}; {hint}")

    def _found(self, job_id: str) -> JobObjects:
        """All that the API has of the job."""
        cluster, store = self.cluster, self._store(job_id)
        of_job = f"{JOB}={job_id}"
        told = cluster.get("ConfigMap", f"{job_id}-status") or {}
        attempt = _attempt(store)
        mpi = cluster.get("MPIJob", f"{job_id}-mpi-{attempt}") if _is_mpi(store) else None
        found = JobObjects(
            store,
            dict(told.get("data") or {}),
            cluster.find("Job", of_job),
            cluster.find("Pod", of_job),
            mpi,
            cluster.find("Workload") if mpi else [],
        )
        return found if found.active(LAUNCHER, WORKER) and found.active(WORKER) else self._with_refusals(found)

    def _with_refusals(self, found: JobObjects) -> JobObjects:
        """The same, with what keeps pods from being made at all: a quota, an account that is missing."""
        names = [("Job", each["metadata"]["name"]) for each in found.jobs]
        events = [
            event
            for kind, name in [*names, ("StatefulSet", f"{found.id}-worker")]
            for event in self.cluster.events(kind, name)
            if event.get("reason") == "FailedCreate"
        ]
        events.sort(key=lambda event: event.get("lastTimestamp") or event["metadata"]["creationTimestamp"])
        refusals = [f"a pod cannot be made: {event['message']}" for event in events]
        return JobObjects(found.store, found.told, found.jobs, found.pods, found.mpi, found.workloads, refusals)

    def _until(self, job_id: str, reached: Any, patience_s: float) -> bool:
        """Wait for a state of the job's objects; returns whether it came."""
        due_s = time.monotonic() + patience_s
        while not reached(self._found(job_id)):
            if time.monotonic() > due_s:
                return False
            time.sleep(_POLL_S)
        return True

    def _stop_mpi(self, found: JobObjects) -> None:
        """Through Kueue where it has the job, as it would let it in again; else by the MPIJob itself."""
        assert found.mpi is not None
        name, uid = found.mpi["metadata"]["name"], found.mpi["metadata"].get("uid")
        for workload in found.workloads:
            if any(each.get("uid") == uid for each in workload["metadata"].get("ownerReferences") or []):
                self.cluster.patch("Workload", workload["metadata"]["name"], {"spec": {"active": False}})
                return
        self.cluster.patch("MPIJob", name, {"spec": {"runPolicy": {"suspend": True}}})


def _component(each: dict[str, Any]) -> str:
    return str((each["metadata"].get("labels") or {}).get(COMPONENT, ""))


def _job(each: dict[str, Any]) -> str:
    return str((each["metadata"].get("labels") or {}).get(JOB, ""))


def _attempt(each: dict[str, Any]) -> str:
    return str((each["metadata"].get("labels") or {}).get(ATTEMPT, "1"))


def _is_mpi(store: dict[str, Any]) -> bool:
    spec = json.loads(store["data"][SPEC])
    return bool(spec["backend"]["kubernetes"]["style"] == "mpijob")


def _stop_timeout_s(found: JobObjects) -> float:
    spec = json.loads(found.store["data"][SPEC])
    return float(spec["resources"]["stop_timeout_s"]) + _ENDS_S / 2


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
