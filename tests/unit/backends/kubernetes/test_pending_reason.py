from __future__ import annotations

from typing import Any

import pytest

from farandole.backends.kubernetes.pending_reason import mpijob_pending_reason, pod_pending_reason

Object = dict[str, Any]


def mpi(*, suspend: bool = True, queue: str | None = "gpus") -> Object:
    policy = {"suspend": suspend, "schedulingPolicy": {"queue": queue} if queue else {}}
    return {"metadata": {"name": "a", "uid": "1"}, "spec": {"runPolicy": policy}}


def workload(name: str, uid: str, created: str, priority: int = 0, **condition: Any) -> Object:
    return {
        "metadata": {"name": name, "creationTimestamp": created, "ownerReferences": [{"uid": uid}]},
        "spec": {"queueName": "gpus", "priority": priority},
        "status": {"conditions": [condition] if condition else []},
    }


def test_position_in_the_queue_is_by_priority_and_age() -> None:
    pending: Object = {"type": "QuotaReserved", "status": "False", "message": "insufficient quota for nvidia.com/gpu"}
    own = workload("own", "1", "2026-11-25T10:00:00Z", **pending)
    others = [
        workload("old", "2", "2026-11-25T09:00:00Z"),
        workload("urgent", "3", "2026-11-25T11:00:00Z", priority=100),
        workload("admitted", "4", "2026-11-25T08:00:00Z", type="Admitted", status="True"),
    ]
    reason = mpijob_pending_reason(mpi(), [own, *others])
    assert reason == "waits in the queue gpus, position 3 of 3: insufficient quota for nvidia.com/gpu"


def test_preempted_job_is_requeued() -> None:
    evicted: Object = {
        "type": "Evicted",
        "status": "True",
        "message": "Preempted to accommodate a workload of higher priority",
    }
    reason = mpijob_pending_reason(mpi(), [workload("own", "1", "2026-11-25T10:00:00Z", **evicted)])
    assert reason is not None
    assert reason.startswith("was requeued in the queue gpus: Preempted")


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (mpi(suspend=False), None),
        (mpi(), "waits to enter the queue gpus"),
        (mpi(queue=None), "waits to be started"),
    ],
)
def test_mpijob_without_a_workload(job: Object, reason: str | None) -> None:
    assert mpijob_pending_reason(job, []) == reason


def pod(phase: str, *conditions: Object, **status: Any) -> Object:
    return {"metadata": {"name": "p"}, "status": {"phase": phase, "conditions": list(conditions), **status}}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (pod("Pending"), "p waits for a node"),
        (pod("Pending", {"type": "PodScheduled", "status": "True"}), "p is about to start"),
        (pod("Running"), None),
        (
            pod("Pending", containerStatuses=[{"state": {"waiting": {"reason": "CreateContainerConfigError",
                "message": 'secret "s3" not found'}}}]),
            'p does not start: CreateContainerConfigError: secret "s3" not found',
        ),
    ],
)  # fmt: skip
def test_pending_pods(state: Object, reason: str | None) -> None:
    assert pod_pending_reason(state) == reason
