"""State of a job, derived from the API's objects by pure functions: nothing is requested or stored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from farandole.backends.kubernetes.launcher_status import RESULT, LauncherStatus
from farandole.backends.kubernetes.manifests.names import (
    CANCELLED,
    COMPONENT,
    EXECUTOR,
    LAUNCHER,
    MLFLOW_RUN,
    NAME,
    PREPARE,
    PRIORITY,
    SUBMITTED,
    WORKER,
)
from farandole.backends.kubernetes.objects import JobObjects, label
from farandole.backends.kubernetes.pending_reason import mpijob_pending_reason, pod_pending_reason
from farandole.backends.protocol import TERMINAL_STATES, JobStatus
from farandole.errors import FarandoleError
from farandole.jobdir.outcome import JobProgress
from farandole.jobdir.status import JobState

Object = dict[str, Any]
_Verdict = tuple[JobState, str, str | None]
"""State, reason and stage."""


def job_status_or_problem(found: JobObjects) -> JobStatus:
    """Return the state of a job, for a list: a job whose launcher's status cannot be read is shown with its problem."""
    try:
        return job_status(found)
    except FarandoleError as error:
        annotations = found.annotations
        return JobStatus(
            id=found.id,
            name=label(found.store, NAME) or found.id,
            backend="kubernetes",
            state="running" if found.active() else "failed",
            reason=str(error),
            priority=int(annotations.get(PRIORITY, "0")),
            submitted_at=annotations.get(SUBMITTED, ""),
            since=annotations.get(SUBMITTED, ""),
            mlflow_run_id=annotations.get(MLFLOW_RUN),
            details={"namespace": found.store["metadata"]["namespace"]},
        )


def job_status(found: JobObjects) -> JobStatus:
    """Return the state of a job.

    Raises:
        FarandoleError: The launcher's status cannot be read.
    """
    state, reason, stage = _verdict(found)
    launcher, annotations = found.launcher_status, found.annotations
    return JobStatus(
        id=found.id,
        name=label(found.store, NAME) or found.id,
        backend="kubernetes",
        state=state,
        reason=reason,
        stage=stage,
        attempt=launcher.attempt,
        workers=launcher.workers,
        step=launcher.step,
        epoch=launcher.epoch,
        progress=_progress(launcher, stage),
        priority=int(annotations.get(PRIORITY, "0")),
        submitted_at=annotations.get(SUBMITTED, ""),
        since=launcher.since or annotations.get(CANCELLED) or annotations.get(SUBMITTED, ""),
        mlflow_run_id=annotations.get(MLFLOW_RUN),
        details={
            "namespace": found.store["metadata"]["namespace"],
            "pods": {pod["metadata"]["name"]: pod["status"].get("phase", "") for pod in found.pods},
            "result": json.loads(found.reported[RESULT]) if RESULT in found.reported and state == "succeeded" else None,
        },
    )


def _progress(launcher: LauncherStatus, stage: str | None) -> JobProgress | None:
    """Return the progress; what is done in a part of the training that is not a separate stage here is left out."""
    progress = launcher.progress
    if progress is None or progress.stage == stage:
        return progress
    return replace(progress, done=0, total=0, unit="", rows_per_s=None, left_s=None)


def _verdict(found: JobObjects) -> _Verdict:
    launcher = found.launcher_status
    if CANCELLED in found.annotations:
        active = found.active()
        if active:
            return "running", f"is being cancelled; {active[0]['metadata']['name']} is still ending", launcher.stage
        return "cancelled", "cancelled", launcher.stage
    if launcher.state in TERMINAL_STATES:
        return launcher.state, launcher.reason, launcher.stage
    last = found.job(LAUNCHER) if found.trains else found.job(PREPARE)
    if last is not None and (succeeded := has_succeeded(last)) is not None:
        if succeeded:
            return "succeeded", "the training has completed" if found.trains else "the dataset is ready", "train"
        return "failed", failure_reason(last, found.pods), "train" if found.trains else "prepare"
    prepare = found.job(PREPARE)
    if prepare is None and last is None and found.mpi is None:
        return "failed", "it was submitted only in part, so nothing runs; `farandole retry` submits the rest", None
    if prepare is not None and not (prepared := has_succeeded(prepare)):
        if prepared is False:
            return "failed", f"the preparation failed: {failure_reason(prepare, found.pods)}", "prepare"
        return _preparing(found)
    return _training(found, launcher)


def _preparing(found: JobObjects) -> _Verdict:
    driver = found.active(PREPARE)
    if not driver:
        return "queued", _refusal(found) or "the preparation's pod is about to be created", "prepare"
    reason = pod_pending_reason(driver[0])
    if reason is not None:
        return "queued", reason, "prepare"
    executors = found.active(EXECUTOR)
    pending = [reason for pod in executors if (reason := pod_pending_reason(pod)) is not None]
    running = len(executors) - len(pending)
    more = f"; {pending[0]}" if pending else ""
    return "running", f"prepares the dataset with {running} of Spark's executors{more}", "prepare"


def _training(found: JobObjects, status: LauncherStatus) -> _Verdict:
    if found.mpi is not None:
        reason = mpijob_pending_reason(found.mpi, found.workloads)
        if reason is not None:
            return "queued", reason, "train"
        succeeded = has_succeeded(found.mpi)
        if succeeded is not None:
            return "succeeded" if succeeded else "failed", failure_reason(found.mpi, found.pods), "train"
    launcher = found.active(LAUNCHER)
    if not launcher:
        return "queued", _refusal(found) or "the launcher's pod is about to be created", "train"
    reason = pod_pending_reason(launcher[0])
    if reason is not None:
        return "queued", reason, "train"
    if status.state == "running" and status.stage == "train" and status.workers:
        return "running", status.reason, "train"
    pending = [reason for pod in found.active(WORKER) if (reason := pod_pending_reason(pod)) is not None]
    if pending:
        return "queued", pending[0], "train"
    return "queued", _refusal(found) or status.reason or "the launcher is starting", "train"


def _refusal(found: JobObjects) -> str | None:
    return found.refusals[-1] if found.refusals else None


def has_succeeded(job: Object) -> bool | None:
    """Return whether a Job or an MPIJob is complete; None: it has not ended."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["status"] == "True" and condition["type"] in ("Complete", "Succeeded"):
            return True
        if condition["status"] == "True" and condition["type"] == "Failed":
            return False
    return None


def failure_reason(job: Object, pods: list[Object]) -> str:
    """Return the last message of a failed Job's pods, or else the API's."""
    conditions = (job.get("status") or {}).get("conditions") or []
    failed: Object = next((each for each in conditions if each["type"] == "Failed"), {})
    if failed.get("reason") == "DeadlineExceeded":
        return "it took longer than backend.kubernetes.deadline_s"
    messages = [
        (pod["status"].get("startTime", ""), message)
        for pod in pods
        if label(pod, COMPONENT) == label(job, COMPONENT) and (message := termination_message(pod)) is not None
    ]
    if messages:
        return max(messages)[1]
    return str(failed.get("message") or "its pods are gone and left no message")


def termination_message(pod: Object) -> str | None:
    """Return why a pod's container ended with an error; None: it did not."""
    name = pod["metadata"]["name"]
    for container in pod["status"].get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended is None or ended.get("exitCode") == 0:
            continue
        if ended.get("message"):
            return str(ended["message"]).strip()
        return f"{name} ended with exit code {ended['exitCode']} ({ended.get('reason', 'no reason')})"
    if pod["status"].get("reason"):  # Evicted
        return f"{name}: {pod['status']['reason']}: {pod['status'].get('message', '')}".strip()
    return None
