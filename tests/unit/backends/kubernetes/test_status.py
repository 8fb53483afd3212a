"""Where a job stands, by what the API says: objects as Kubernetes gives them, cut to what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farandole.backends.kubernetes.manifests import render
from farandole.backends.kubernetes.manifests.names import CANCELLED
from farandole.backends.kubernetes.status import JobObjects, job_status
from tests.support.cluster_jobs import JOB_ID, cluster_job, submission

Object = dict[str, Any]
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def marked(component: str, attempt: int = 1) -> Object:
    return {"farandole.dev/component": component, "farandole.dev/attempt": str(attempt), "farandole.dev/job": JOB_ID}


def job(component: str, ended: str | None = None, attempt: int = 1, **condition: Any) -> Object:
    conditions = [{"type": ended, "status": "True", **condition}] if ended else []
    name = f"{JOB_ID}-{component}-{attempt}"
    return {"metadata": {"name": name, "labels": marked(component, attempt)}, "status": {"conditions": conditions}}


def pod(component: str, phase: str = "Running", attempt: int = 1, **status: Any) -> Object:
    meta = {"name": f"{JOB_ID}-{component}-{attempt}-x1", "labels": marked(component, attempt)}
    return {"metadata": meta, "status": {"phase": phase, "startTime": "2026-11-25T10:15:10Z", **status}}


def without_place(message: str) -> Object:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


def ended(code: int, message: str = "") -> Object:
    return {"containerStatuses": [{"state": {"terminated": {"exitCode": code, "message": message, "reason": "Error"}}}]}


@pytest.fixture
def store(tmp_path: Path) -> Object:
    return render(submission(cluster_job(tmp_path)))[0]


def told(state: str, attempt: int = 1, **fields: Any) -> dict[str, str]:
    return {"status": json.dumps({"state": state, "submission": attempt, **fields})}


def test_a_driver_without_a_place(store: Object) -> None:
    waits = pod("prepare", "Pending", **without_place("0/1 nodes are available: 1 Insufficient memory."))
    status = job_status(JobObjects(store, {}, [job("prepare"), job("launcher")], [waits]))
    assert (status.state, status.stage) == ("queued", "prepare")
    assert status.reason == f"{JOB_ID}-prepare-1-x1 has no place: 0/1 nodes are available: 1 Insufficient memory."


def test_a_driver_with_executors(store: Object) -> None:
    waits = pod("executor", "Pending", **without_place("0/1 nodes are available: 1 Insufficient cpu."))
    found = JobObjects(store, {}, [job("prepare"), job("launcher")], [pod("prepare"), pod("executor"), waits])
    status = job_status(found)
    assert status.state == "running"
    assert status.reason.startswith("prepares the dataset with 1 of Spark's executors; ")


def test_an_image_that_cannot_be_had(store: Object) -> None:
    waiting = {"image": "farandole/prepare:9", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
    waits = pod("prepare", "Pending", containerStatuses=[waiting])
    status = job_status(JobObjects(store, {}, [job("prepare"), job("launcher")], [waits]))
    assert (
        "its image farandole/prepare:9 cannot be had (ImagePullBackOff: no); check backend.kubernetes" in status.reason
    )


def test_a_preparation_that_failed(store: Object) -> None:
    gone = pod("prepare", "Failed", **ended(2, "data.sources.things: no such file"))
    status = job_status(
        JobObjects(store, {}, [job("prepare", "Failed", reason="PodFailurePolicy"), job("launcher")], [gone])
    )
    assert (status.state, status.stage) == ("failed", "prepare")
    assert status.reason == "the preparation failed: data.sources.things: no such file"


def test_workers_without_a_gpu(store: Object) -> None:
    pods = [pod("prepare", "Succeeded"), pod("launcher"), pod("worker", "Pending", **without_place(NO_GPU))]
    found = JobObjects(store, told("queued", stage="train"), [job("prepare", "Complete"), job("launcher")], pods)
    status = job_status(found)
    assert (status.state, status.stage) == ("queued", "train")
    assert status.reason.endswith(f"has no place: {NO_GPU}")


def test_a_training_that_runs(store: Object) -> None:
    said = told("running", stage="train", attempt_=0, workers=2, step=37, epoch=1, reason="attempt 1 is training")
    found = JobObjects(store, said, [job("prepare", "Complete"), job("launcher")], [pod("launcher"), pod("worker")])
    status = job_status(found)
    assert (status.state, status.reason, status.step, status.workers) == ("running", "attempt 1 is training", 37, 2)
    assert status.mlflow_run_id == "0123456789abcdef"


def test_the_end_is_the_launchers_word(store: Object) -> None:
    said = told("succeeded", stage="train", reason="the training reached its end", step=52)
    said["result"] = json.dumps({"model": {"uri": "models:/small/1"}})
    found = JobObjects(
        store, said, [job("prepare", "Complete"), job("launcher", "Complete")], [pod("launcher", "Succeeded")]
    )
    status = job_status(found)
    assert (status.state, status.step) == ("succeeded", 52)
    assert status.details["result"]["model"]["uri"] == "models:/small/1"


def test_a_launcher_that_could_say_nothing(store: Object) -> None:
    failed = job("launcher", "Failed", reason="BackoffLimitExceeded", message="Job has reached its limit")
    gone = pod("launcher", "Failed", **ended(137))
    status = job_status(JobObjects(store, told("running"), [job("prepare", "Complete"), failed], [gone]))
    assert status.state == "failed"
    assert status.reason == f"{JOB_ID}-launcher-1-x1 ended with exit code 137 (Error)"


def test_a_deadline(store: Object) -> None:
    failed = job("launcher", "Failed", reason="DeadlineExceeded")
    status = job_status(JobObjects(store, {}, [job("prepare", "Complete"), failed], []))
    assert (status.state, status.reason) == ("failed", "it took longer than backend.kubernetes.deadline_s")


def test_a_job_is_cancelled_when_nothing_of_it_runs(store: Object) -> None:
    store["metadata"]["annotations"][CANCELLED] = "2026-11-25T10:20:00+00:00"
    jobs = [job("prepare", "Complete"), job("launcher", "Failed", reason="DeadlineExceeded")]
    ending = job_status(JobObjects(store, {}, jobs, [pod("worker")]))
    assert (ending.state, ending.reason) == ("running", f"is being cancelled; {JOB_ID}-worker-1-x1 still ends")
    assert job_status(JobObjects(store, {}, jobs, [])).state == "cancelled"


def test_what_an_earlier_submission_told_does_not_count(tmp_path: Path) -> None:
    again = render(submission(cluster_job(tmp_path), attempt=2))[0]
    jobs = [job("launcher", "Failed"), job("prepare", attempt=2), job("launcher", attempt=2)]
    status = job_status(JobObjects(again, told("failed", reason="an earlier one"), jobs, []))
    assert (status.state, status.reason) == ("queued", "the preparation's pod is about to be made")


def test_a_submission_that_was_not_completed(store: Object) -> None:
    status = job_status(JobObjects(store))
    assert status.state == "failed"
    assert "`farandole retry`" in status.reason


def test_a_pod_that_may_not_be_made(store: Object) -> None:
    refusals = ['a pod cannot be made: pods "x" is forbidden: exceeded quota: jobs']
    status = job_status(JobObjects(store, {}, [job("prepare"), job("launcher")], [], refusals=refusals))
    assert (status.state, status.reason) == ("queued", refusals[0])
