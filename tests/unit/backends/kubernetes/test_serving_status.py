"""States of services, from Deployments and pods as the API answers them."""

from __future__ import annotations

from typing import Any

import pytest

from farandole.backends.kubernetes import serving_status
from farandole.backends.kubernetes.serving_status import ServiceStatus, last_line

Object = dict[str, Any]


_REVISION = "deployment.kubernetes.io/revision"


def service_status(deployment: Object, pods: list[Object]) -> ServiceStatus:
    """Return the state of a service with two versions, of which the second one is the present one."""
    sets = [
        {"metadata": {"annotations": {_REVISION: number}, "labels": {"pod-template-hash": f"hash-{number}"}}}
        for number in ("1", "2")
    ]
    return serving_status.service_status(deployment, sets, pods)


def deployment(wanted: int = 2, **status: Any) -> Object:
    return {
        "metadata": {"name": "serving-flights", "generation": 3, "annotations": {_REVISION: "2"}},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 3, **status},
    }


def pod(state: Object | None = None, *, restarts: int = 0, ready: bool = False, last: Object | None = None) -> Object:
    container = {
        "name": "serving", "image": "farandole/serve:0.1.0", "restartCount": restarts, "ready": ready,
        "state": state or {"running": {}}, "lastState": last or {},
    }  # fmt: skip
    return {
        "metadata": {"name": "serving-flights-1", "labels": {"pod-template-hash": "hash-2"}},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [container],
        },
    }


def test_service_is_ready_when_every_pod_of_the_new_version_answers() -> None:
    full = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    found = service_status(deployment(**full), [pod(ready=True), pod(ready=True)])
    assert (found.is_ready, found.ready, found.wanted, found.reason) == (True, 2, 2, None)


@pytest.mark.parametrize(
    "status",
    [
        {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 2},
        {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3},
        {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1},
        {},
    ],
)
def test_service_with_an_earlier_version_or_too_few_pods_is_not_ready(status: Object) -> None:
    assert not service_status(deployment(**status), []).is_ready


def test_pod_that_no_node_accepts_is_a_reason_to_wait() -> None:
    waiting: Object = {
        "metadata": {"name": "serving-flights-1", "labels": {"pod-template-hash": "hash-2"}},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu."}]},
    }
    found = service_status(deployment(), [waiting])
    assert found.reason == "serving-flights-1 cannot be scheduled: Insufficient cpu."
    assert not found.is_failing


def test_image_that_cannot_be_pulled_is_final() -> None:
    found = service_status(deployment(), [pod({"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}})])
    assert found.is_failing
    assert found.reason is not None
    assert "its image farandole/serve:0.1.0 cannot be pulled (ErrImageNeverPull: not present); choose" in found.reason


def test_failing_pod_of_the_version_before_does_not_count() -> None:
    old = pod({"waiting": {"reason": "ErrImageNeverPull"}})
    old["metadata"]["labels"]["pod-template-hash"] = "hash-1"
    found = service_status(deployment(), [old])
    assert (found.reason, found.is_failing) == (None, False)


def test_missing_configuration_is_final() -> None:
    message = 'configmap "farandole-services" not found'
    found = service_status(
        deployment(), [pod({"waiting": {"reason": "CreateContainerConfigError", "message": message}})]
    )
    assert (found.reason, found.is_failing) == (f"serving-flights-1: its container cannot be made: {message}", True)


@pytest.mark.parametrize(("restarts", "is_failing"), [(0, False), (1, False), (2, True)])
def test_crash_is_shown_with_the_last_line_of_its_log(restarts: int, is_failing: bool) -> None:
    log = "farandole: starting\nfarandole: models:/flights@champion: there is no such model\n\n"
    ended = {"terminated": {"exitCode": 2, "message": log}}
    found = service_status(
        deployment(), [pod({"waiting": {"reason": "CrashLoopBackOff"}}, restarts=restarts, last=ended)]
    )
    assert found.reason == (
        "serving-flights-1: the service ended (exit code 2): models:/flights@champion: there is no such model"
    )
    assert found.is_failing is is_failing


def test_exceeded_memory_is_named() -> None:
    found = service_status(deployment(), [pod({"terminated": {"reason": "OOMKilled", "exitCode": 137}})])
    assert found.reason == "serving-flights-1: the service ended (its memory limit was exceeded)"


def test_running_pod_that_does_not_answer_yet_loads_the_model() -> None:
    assert service_status(deployment(), [pod()]).reason == "serving-flights-1 loads the model"


def test_exhausted_quota_is_a_reason() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: jobs"}
    found = service_status(deployment(conditions=[condition]), [])
    assert found.reason == "pods cannot be created: exceeded quota: jobs"


@pytest.mark.parametrize(
    ("log", "expected"),
    [("", ""), ("a\nb\n", "b"), ('{"event": "x", "error": "no model"}\n', "no model"), ("[1]", "[1]")],
)
def test_last_line_of_a_log(log: str, expected: str) -> None:
    assert last_line(log) == expected
