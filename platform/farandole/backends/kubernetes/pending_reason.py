"""Why something waits, in a sentence: pods from their conditions, queued jobs from Kueue's Workloads."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def pod_pending_reason(pod: Object) -> str | None:
    """Why a pod does not work yet; None: it does."""
    name, status = pod["metadata"]["name"], pod["status"]
    if pod["metadata"].get("deletionTimestamp"):
        return f"{name} is ending"
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{name} has no place: {scheduled.get('message') or scheduled.get('reason') or 'no node takes it'}"
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting is not None:
            return f"{name} does not start: {_waiting_words(container, waiting)}"
    if status.get("phase") == "Running":
        return None
    return f"{name} is about to start" if scheduled else f"{name} waits for a node"


def _waiting_words(container: Object, waiting: Object) -> str:
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
        return (
            f"its image {container['image']} cannot be had ({reason}{': ' + message if message else ''}); check"
            " backend.kubernetes.images"
        )
    if reason == "CrashLoopBackOff":
        ended = (container.get("lastState") or {}).get("terminated") or {}
        return f"its process ends at once ({str(ended.get('message') or message).strip()})"
    if reason in ("ContainerCreating", "PodInitializing"):
        return "its container is being made"
    return f"{reason}: {message}".rstrip(": ")


def mpijob_pending_reason(mpi: Object, workloads: list[Object]) -> str | None:
    """Why an MPIJob has not been let in; None: it has."""
    policy = mpi["spec"].get("runPolicy") or {}
    if not policy.get("suspend"):
        return None
    queue = (policy.get("schedulingPolicy") or {}).get("queue")
    own = [each for each in workloads if _owned_by(each, mpi)]
    if not own:
        return f"waits to enter the queue {queue}" if queue else "waits for its turn"
    workload = own[0]
    conditions = {each["type"]: each for each in (workload.get("status") or {}).get("conditions") or []}
    for kind, sentence in (("Evicted", "was put back into the queue"), ("QuotaReserved", "waits in the queue")):
        condition = conditions.get(kind)
        if condition is None or condition["status"] != ("True" if kind == "Evicted" else "False"):
            continue
        return f"{sentence} {queue}{_position(workload, workloads)}: {condition.get('message', '')}".rstrip(": ")
    return f"waits in the queue {queue}{_position(workload, workloads)}"


def _position(workload: Object, workloads: list[Object]) -> str:
    """The place among those of the same queue that wait, as Kueue orders them: by priority, then by age."""
    queue = workload["spec"].get("queueName")
    waiting = [each for each in workloads if each["spec"].get("queueName") == queue and not _admitted(each)]
    if len(waiting) < 2:
        return ""
    ordered = sorted(
        waiting, key=lambda each: (-int(each["spec"].get("priority") or 0), each["metadata"]["creationTimestamp"])
    )
    names = [each["metadata"]["name"] for each in ordered]
    return f", number {names.index(workload['metadata']['name']) + 1} of {len(names)}"


def _admitted(workload: Object) -> bool:
    conditions = (workload.get("status") or {}).get("conditions") or []
    return any(each["type"] in ("Admitted", "Finished") and each["status"] == "True" for each in conditions)


def _owned_by(workload: Object, owner: Object) -> bool:
    owners = workload["metadata"].get("ownerReferences") or []
    return any(each.get("uid") == owner["metadata"].get("uid") for each in owners)
