"""Reasons why pods and queued jobs wait, one sentence each: from pods' conditions and from Kueue's Workloads."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def pod_pending_reason(pod: Object) -> str | None:
    """Return why a pod does not work yet; None: it does."""
    name, status = pod["metadata"]["name"], pod["status"]
    if pod["metadata"].get("deletionTimestamp"):
        return f"{name} is ending"
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        cause = scheduled.get("message") or scheduled.get("reason") or "no node accepts it"
        return f"{name} cannot be scheduled: {cause}"
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting is not None:
            return f"{name} does not start: {_container_reason(container, waiting)}"
    if status.get("phase") == "Running":
        return None
    return f"{name} is about to start" if scheduled else f"{name} waits for a node"


def _container_reason(container: Object, waiting: Object) -> str:
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
        cause = f"{reason}: {message}" if message else reason
        return f"its image {container['image']} cannot be pulled ({cause}); check backend.kubernetes.images"
    if reason == "CrashLoopBackOff":
        ended = (container.get("lastState") or {}).get("terminated") or {}
        return f"its process ends immediately ({str(ended.get('message') or message).strip()})"
    if reason in ("ContainerCreating", "PodInitializing"):
        return "its container is being created"
    return f"{reason}: {message}".rstrip(": ")


def mpijob_pending_reason(mpi: Object, workloads: list[Object]) -> str | None:
    """Return why an MPIJob has not been admitted; None: it has."""
    policy = mpi["spec"].get("runPolicy") or {}
    if not policy.get("suspend"):
        return None
    queue = (policy.get("schedulingPolicy") or {}).get("queue")
    workload = next((each for each in workloads if is_owned_by(each, mpi)), None)
    if workload is None:
        return f"waits to enter the queue {queue}" if queue else "waits to be started"
    conditions = {each["type"]: each for each in (workload.get("status") or {}).get("conditions") or []}
    for kind, expected, text in (("Evicted", "True", "was requeued in"), ("QuotaReserved", "False", "waits in")):
        condition = conditions.get(kind)
        if condition is not None and condition["status"] == expected:
            where = f"{text} the queue {queue}{_position(workload, workloads)}"
            return f"{where}: {condition.get('message', '')}".rstrip(": ")
    return f"waits in the queue {queue}{_position(workload, workloads)}"


def is_owned_by(workload: Object, owner: Object) -> bool:
    """Return whether a Workload belongs to an object."""
    owners = workload["metadata"].get("ownerReferences") or []
    return any(each.get("uid") == owner["metadata"].get("uid") for each in owners)


def _position(workload: Object, workloads: list[Object]) -> str:
    """Return the position among the waiting Workloads of the queue, in Kueue's order: by priority, then by age."""
    queue = workload["spec"].get("queueName")
    waiting = [each for each in workloads if each["spec"].get("queueName") == queue and not _is_admitted(each)]
    if len(waiting) < 2:
        return ""
    ordered = sorted(
        waiting, key=lambda each: (-int(each["spec"].get("priority") or 0), each["metadata"]["creationTimestamp"])
    )
    names = [each["metadata"]["name"] for each in ordered]
    return f", position {names.index(workload['metadata']['name']) + 1} of {len(names)}"


def _is_admitted(workload: Object) -> bool:
    conditions = (workload.get("status") or {}).get("conditions") or []
    return any(each["type"] in ("Admitted", "Finished") and each["status"] == "True" for each in conditions)
