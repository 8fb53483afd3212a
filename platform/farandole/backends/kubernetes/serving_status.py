"""The state of a service in a cluster, from its Deployment and its pods: ready, starting, or failing and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from farandole.backends.kubernetes.pending_reason import pod_pending_reason

Object = dict[str, Any]

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_HASH, _REVISION = "pod-template-hash", "deployment.kubernetes.io/revision"
_MAX_CRASHES = 2
"""Restarts of a container after which a start counts as failed."""


@dataclass(frozen=True)
class ServiceStatus:
    """The state of a service.

    Args:
        ready: Pods of the present version that answer.
        wanted: Pods that there should be.
        is_ready: Whether all of them answer, and none of an earlier version is left.
        reason: Why one does not answer yet.
        is_failing: Whether waiting longer is of no use unless somebody changes something.
    """

    ready: int
    wanted: int
    is_ready: bool
    reason: str | None = None
    is_failing: bool = False


def service_status(deployment: Object, replica_sets: list[Object], pods: list[Object]) -> ServiceStatus:
    """Return the state of a service.

    Args:
        deployment: Its Deployment.
        replica_sets: The ReplicaSets with its label, one for each version of its pods.
        pods: The pods with its label.
    """
    status, wanted = deployment.get("status") or {}, int(deployment["spec"].get("replicas") or 0)
    updated, available = int(status.get("updatedReplicas") or 0), int(status.get("availableReplicas") or 0)
    is_seen = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    total = int(status.get("replicas") or 0)
    ready = min(updated, available)
    if is_seen and wanted and ready >= wanted and total == updated:
        return ServiceStatus(ready, wanted, is_ready=True)
    reason, is_failing = _refusal(status), False
    present = _present_hash(deployment, replica_sets) if is_seen else None
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        # Pods of an earlier version say nothing about this one, which may be there to replace a failing one.
        if pod["metadata"].get("deletionTimestamp") or present is None or labels.get(_HASH) != present:
            continue
        found, is_bad = _problem(pod)
        if found is not None and (reason is None or is_bad):
            reason, is_failing = found, is_bad
        if is_bad:
            break
    return ServiceStatus(ready, wanted, is_ready=False, reason=reason, is_failing=is_failing)


def _present_hash(deployment: Object, replica_sets: list[Object]) -> str | None:
    """Return the label of the pods of the present version; None: the controller has not made it yet."""
    revision = (deployment["metadata"].get("annotations") or {}).get(_REVISION)
    for each in replica_sets:
        if revision is not None and (each["metadata"].get("annotations") or {}).get(_REVISION) == revision:
            return str(each["metadata"]["labels"][_HASH])
    return None


def _refusal(status: Object) -> str | None:
    """Return why pods cannot even be created: a quota, a policy."""
    for each in status.get("conditions") or []:
        if each["type"] == "ReplicaFailure" and each["status"] == "True":
            return f"pods cannot be created: {each.get('message', each.get('reason'))}"
    return None


def _problem(pod: Object) -> tuple[str | None, bool]:
    """Return why a pod does not answer, and whether that is final."""
    name = pod["metadata"]["name"]
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE_REASONS:
            cause = f"{reason}: {message}".rstrip(": ")
            return f"{name}: its image {container['image']} cannot be pulled ({cause}); choose another by --image", True
        if reason in _CONFIG_REASONS:
            return f"{name}: its container cannot be made: {message or reason}", True
        ended = _ended(container)
        if ended is not None:
            return f"{name}: {ended}", int(container.get("restartCount") or 0) >= _MAX_CRASHES
        if "running" in (container.get("state") or {}) and not container.get("ready"):
            return f"{name} loads the model", False
    return pod_pending_reason(pod), False


def _ended(container: Object) -> str | None:
    """Return how the container's process ended, with the last line of its log; None: it never has."""
    for field in ("state", "lastState"):
        ended = (container.get(field) or {}).get("terminated")
        if ended is not None and not container.get("ready"):
            code, line = ended.get("exitCode"), last_line(ended.get("message") or "")
            cause = "its memory limit was exceeded" if ended.get("reason") == "OOMKilled" else f"exit code {code}"
            return f"the service ended ({cause}){f': {line}' if line else ''}"
    return None


def last_line(log: str) -> str:
    """Return the last line of a log that is not empty; of a line of JSON, its error or text."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return ""
    try:
        parsed = json.loads(lines[-1])
    except ValueError:
        return lines[-1].removeprefix("farandole: ")
    return str(parsed.get("error") or parsed.get("text") or lines[-1]) if isinstance(parsed, dict) else lines[-1]
