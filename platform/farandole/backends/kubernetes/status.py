"""Where a job stands, from what the API says of its objects: pure functions, nothing is asked or kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from farandole.backends.kubernetes.manifests.names import (
    ATTEMPT,
    CANCELLED,
    COMPONENT,
    EXECUTOR,
    LAUNCHER,
    MLFLOW_RUN,
    NAME,
    PREPARE,
    PRIORITY,
    QUEUE,
    SUBMITTED,
    WORKER,
)
from farandole.backends.kubernetes.pending_reason import mpijob_pending_reason, pod_pending_reason
from farandole.backends.protocol import TERMINAL_STATES, JobStatus
from farandole.jobdir.layout import SPEC
from farandole.jobdir.status import JobState

Object = dict[str, Any]
_STALE = ("Succeeded", "Failed")


@dataclass(frozen=True)
class JobObjects:
    """All that the API has of one job.

    Args:
        store: Its first ConfigMap.
        told: What its launcher told, by key.
        jobs: Its Jobs, of all submissions.
        pods: Its pods, likewise.
        mpi: Its MPIJob.
        workloads: Kueue's Workloads of it.
        refusals: Why pods that should be there could not even be made.
    """

    store: Object
    told: dict[str, str] = field(default_factory=dict)
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
    def attempt(self) -> int:
        """The number of the present submission."""
        return int(self.store["metadata"]["labels"][ATTEMPT])

    @property
    def status(self) -> Object:
        """What the launcher of the present submission told last."""
        told: Object = json.loads(self.told.get("status", "{}"))
        return told if told.get("submission") == self.attempt else {}

    @property
    def trains(self) -> bool:
        """Whether the job has more than a preparation."""
        spec: Object = json.loads(self.store["data"][SPEC])
        return spec.get("model") is not None

    @property
    def annotations(self) -> dict[str, str]:
        """What is noted at the store."""
        return dict(self.store["metadata"].get("annotations") or {})

    def job(self, component: str) -> Object | None:
        """The Job of a part in the present submission."""
        return next((each for each in self.jobs if self._is(each, component)), None)

    def active(self, *components: str) -> list[Object]:
        """Pods that have not ended, of these parts or of all."""
        return [
            pod
            for pod in self.pods
            if pod["status"].get("phase") not in _STALE
            and (not components or pod["metadata"]["labels"].get(COMPONENT) in components)
        ]

    def _is(self, each: Object, component: str) -> bool:
        marked = each["metadata"]["labels"]
        return bool(marked.get(COMPONENT) == component and marked.get(ATTEMPT) == str(self.attempt))


def job_status(found: JobObjects) -> JobStatus:
    """Where the job stands."""
    state, reason, stage = _state(found)
    told, noted = found.status, found.annotations
    return JobStatus(
        id=found.id,
        name=str(found.store["metadata"]["labels"].get(NAME, found.id)),
        backend="kubernetes",
        state=state,
        reason=reason,
        stage=stage,
        attempt=int(told.get("attempt") or 0),
        workers=int(told.get("workers") or 0),
        step=int(told.get("step") or 0),
        epoch=int(told.get("epoch") or 0),
        priority=int(noted.get(PRIORITY, "0")),
        submitted_at=noted.get(SUBMITTED, ""),
        since=str(told.get("since") or noted.get(CANCELLED) or noted.get(SUBMITTED, "")),
        mlflow_run_id=noted.get(MLFLOW_RUN),
        details={
            "namespace": found.store["metadata"]["namespace"],
            "pods": {pod["metadata"]["name"]: pod["status"].get("phase", "") for pod in found.pods},
            "result": json.loads(found.told["result"]) if "result" in found.told and state == "succeeded" else None,
        },
    )


def _state(found: JobObjects) -> tuple[JobState, str, str | None]:
    told = found.status
    if CANCELLED in found.annotations:
        left = found.active()
        if left:
            return "running", f"is being cancelled; {left[0]['metadata']['name']} still ends", told.get("stage")
        return "cancelled", told.get("cancelled") or "cancelled", told.get("stage")
    if told.get("state") in TERMINAL_STATES:
        return told["state"], str(told.get("reason", "")), told.get("stage")
    last = found.job(LAUNCHER) if found.trains else found.job(PREPARE)
    if last is not None:
        well = has_succeeded(last)
        if well:
            return "succeeded", "the dataset is ready" if not found.trains else "the training reached its end", "train"
        if well is False:
            return "failed", failure_reason(last, found.pods), "train" if found.trains else "prepare"
    prepare = found.job(PREPARE)
    if prepare is None and last is None and found.mpi is None:
        return (
            "failed",
            "it was submitted only in part, so nothing of it runs; `farandole retry` submits the rest",
            None,
        )
    if prepare is not None and not has_succeeded(prepare):
        if has_succeeded(prepare) is False:
            return "failed", f"the preparation failed: {failure_reason(prepare, found.pods)}", "prepare"
        return _preparing(found)
    return _training(found, told)


def _preparing(found: JobObjects) -> tuple[JobState, str, str | None]:
    driver = found.active(PREPARE)
    if not driver:
        return "queued", _refused(found, "the preparation's pod is about to be made"), "prepare"
    reason = pod_pending_reason(driver[0])
    if reason is not None:
        return "queued", reason, "prepare"
    executors = found.active(EXECUTOR)
    waiting = [reason for pod in executors if (reason := pod_pending_reason(pod)) is not None]
    running = len(executors) - len(waiting)
    more = f"; {waiting[0]}" if waiting else ""
    return "running", f"prepares the dataset with {running} of Spark's executors{more}", "prepare"


def _training(found: JobObjects, told: Object) -> tuple[JobState, str, str | None]:
    if found.mpi is not None:
        reason = mpijob_pending_reason(found.mpi, found.workloads)
        if reason is not None:
            return "queued", reason, "train"
        ended = has_succeeded(found.mpi)
        if ended is not None:
            return ("succeeded" if ended else "failed"), failure_reason(found.mpi, found.pods), "train"
    launcher = found.active(LAUNCHER)
    if not launcher:
        return "queued", _refused(found, "the launcher's pod is about to be made"), "train"
    reason = pod_pending_reason(launcher[0])
    if reason is not None:
        return "queued", reason, "train"
    if told.get("state") == "running" and told.get("stage") == "train" and told.get("workers"):
        return "running", str(told.get("reason", "")), "train"
    waiting = [reason for pod in found.active(WORKER) if (reason := pod_pending_reason(pod)) is not None]
    if waiting:
        return "queued", waiting[0], "train"
    return "queued", _refused(found, str(told.get("reason") or "the launcher is starting")), "train"


def _refused(found: JobObjects, otherwise: str) -> str:
    return found.refusals[-1] if found.refusals else otherwise


def has_succeeded(job: Object) -> bool | None:
    """Whether a Job or an MPIJob is complete; None: it has not ended."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["status"] == "True" and condition["type"] in ("Complete", "Succeeded"):
            return True
        if condition["status"] == "True" and condition["type"] == "Failed":
            return False
    return None


def failure_reason(job: Object, pods: list[Object]) -> str:
    """What its last pod said, or else what the API says of it."""
    conditions = (job.get("status") or {}).get("conditions") or []
    failed: Object = next((each for each in conditions if each["type"] == "Failed"), {})
    if failed.get("reason") == "DeadlineExceeded":
        return "it took longer than backend.kubernetes.deadline_s"
    component = job["metadata"]["labels"].get(COMPONENT)
    said = [
        (pod["status"].get("startTime", ""), word)
        for pod in pods
        if pod["metadata"]["labels"].get(COMPONENT) == component and (word := termination_message(pod)) is not None
    ]
    if said:
        return max(said)[1]
    return str(failed.get("message") or "its pods are gone, and said nothing")


def termination_message(pod: Object) -> str | None:
    """Why a pod's container ended, if it has."""
    for container in pod["status"].get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended is None or ended.get("exitCode") == 0:
            continue
        if ended.get("message"):
            return str(ended["message"]).strip()
        return (
            f"{pod['metadata']['name']} ended with exit code {ended['exitCode']} ({ended.get('reason', 'no reason')})"
        )
    if pod["status"].get("reason"):  # Evicted
        return f"{pod['metadata']['name']}: {pod['status']['reason']}: {pod['status'].get('message', '')}".strip()
    return None


def queue_name(found: JobObjects) -> str | None:
    """Kueue's queue of the job."""
    return found.mpi["metadata"]["labels"].get(QUEUE) if found.mpi else None
