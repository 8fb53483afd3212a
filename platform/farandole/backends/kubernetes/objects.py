"""The objects of a job in a cluster, as plain data, and their retrieval from the API."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from farandole.backends.kubernetes.launcher_status import STATUS, LauncherStatus
from farandole.backends.kubernetes.manifests.names import (
    COMPONENT,
    JOB,
    LAUNCHER,
    MANAGER,
    STORE,
    SUBMISSION,
    WORKER,
)
from farandole.errors import SpecError, closest_match
from farandole.jobdir.layout import SPEC

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

Object = dict[str, Any]
_ENDED_PHASES = ("Succeeded", "Failed")


@dataclass(frozen=True)
class JobObjects:
    """Everything that the API has of one job.

    Args:
        store: Its first ConfigMap.
        reported: The data of its second ConfigMap, which the launcher writes.
        jobs: Its Jobs, of all submissions.
        pods: Its pods, of all submissions.
        mpi: Its MPIJob.
        workloads: Kueue's Workloads of the namespace.
        refusals: Why expected pods could not even be created.
    """

    store: Object
    reported: dict[str, str] = field(default_factory=dict)
    jobs: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    mpi: Object | None = None
    workloads: list[Object] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.store["metadata"]["name"])

    @property
    def submission(self) -> int:
        """The number of the present submission."""
        return int(label(self.store, SUBMISSION) or 1)

    @property
    def launcher_status(self) -> LauncherStatus:
        """The latest status of the present submission's launcher; empty before its first report."""
        status = LauncherStatus.from_json(self.reported.get(STATUS, "{}"))
        return status if status.submission == self.submission else LauncherStatus()

    @property
    def spec(self) -> Object:
        """The serialized spec."""
        spec: Object = json.loads(self.store["data"][SPEC])
        return spec

    @property
    def trains(self) -> bool:
        """True if the job has more than a preparation."""
        return self.spec.get("model") is not None

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the store."""
        return dict(self.store["metadata"].get("annotations") or {})

    def job(self, component: str) -> Object | None:
        """Return the Job of a component in the present submission."""
        wanted = (component, str(self.submission))
        return next((each for each in self.jobs if (label(each, COMPONENT), label(each, SUBMISSION)) == wanted), None)

    def active(self, *components: str) -> list[Object]:
        """Return the pods that have not ended, of some components or of all."""
        return [
            pod
            for pod in self.pods
            if pod["status"].get("phase") not in _ENDED_PHASES
            and (not components or label(pod, COMPONENT) in components)
        ]


def label(each: Object, name: str) -> str:
    """Return a label of an object; empty: the object has no such label."""
    return str((each["metadata"].get("labels") or {}).get(name, ""))


def fetch_store(cluster: Cluster, job_id: str) -> Object:
    """Return the first ConfigMap of a job.

    Raises:
        SpecError: There is no such job.
    """
    store = cluster.get("ConfigMap", job_id)
    if store is not None and label(store, COMPONENT) == STORE:
        return store
    known = [each["metadata"]["name"] for each in cluster.find("ConfigMap", f"{COMPONENT}={STORE}")]
    close = closest_match(job_id, known)
    hint = f"did you mean {close}?" if close else "`farandole jobs --backend kubernetes` lists them"
    raise SpecError(f"{job_id}: there is no such job in the namespace {cluster.namespace}; {hint}")


def fetch_objects(cluster: Cluster, job_id: str) -> JobObjects:
    """Return everything that the API has of a job.

    Raises:
        SpecError: There is no such job.
    """
    store, selector = fetch_store(cluster, job_id), f"{JOB}={job_id}"
    reported = cluster.get("ConfigMap", f"{job_id}-status") or {}
    found = JobObjects(
        store, dict(reported.get("data") or {}), cluster.find("Job", selector), cluster.find("Pod", selector)
    )
    if found.spec["backend"]["kubernetes"]["style"] == "mpijob":
        mpi = cluster.get("MPIJob", f"{job_id}-mpi-{found.submission}")
        found = replace(found, mpi=mpi, workloads=cluster.find("Workload") if mpi else [])
    if found.active(LAUNCHER) and found.active(WORKER):
        return found
    return replace(found, refusals=_refusals(cluster, found))


def fetch_all(cluster: Cluster) -> list[JobObjects]:
    """Return all jobs of the namespace, with a few requests for all of them."""
    selector = f"app.kubernetes.io/managed-by={MANAGER}"
    maps = cluster.find("ConfigMap", selector)
    jobs, pods, mpis = (cluster.find(kind, selector) for kind in ("Job", "Pod", "MPIJob"))
    workloads = cluster.find("Workload") if mpis else []
    reported = {label(each, JOB): each for each in maps if label(each, COMPONENT) == "status"}

    def objects_of(store: Object) -> JobObjects:
        job_id, submission = label(store, JOB), label(store, SUBMISSION)
        own = [each for each in mpis if label(each, JOB) == job_id and label(each, SUBMISSION) == submission]
        return JobObjects(
            store,
            dict(reported.get(job_id, {}).get("data") or {}),
            [each for each in jobs if label(each, JOB) == job_id],
            [each for each in pods if label(each, JOB) == job_id],
            own[0] if own else None,
            workloads,
        )

    return [objects_of(each) for each in maps if label(each, COMPONENT) == STORE]


def _refusals(cluster: Cluster, found: JobObjects) -> list[str]:
    """Return why pods cannot even be created, oldest first: a quota, a missing account."""
    owners = [("Job", each["metadata"]["name"]) for each in found.jobs]
    events = [
        event
        for kind, name in [*owners, ("StatefulSet", f"{found.id}-worker")]
        for event in cluster.events(kind, name)
        if event.get("reason") == "FailedCreate"
    ]
    events.sort(key=lambda event: event.get("lastTimestamp") or event["metadata"]["creationTimestamp"])
    return [f"a pod cannot be created: {event['message']}" for event in events]
