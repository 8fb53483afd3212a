"""The state of a job from the API's objects, reduced to the fields that are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farandole.backends.kubernetes.launcher_status import LauncherStatus
from farandole.backends.kubernetes.manifests import render
from farandole.backends.kubernetes.manifests.names import CANCELLED
from farandole.backends.kubernetes.objects import JobObjects
from farandole.backends.kubernetes.status import job_status, job_status_or_problem
from farandole.errors import FarandoleError
from farandole.jobdir.outcome import JobProgress
from tests.support.cluster_jobs import JOB_ID, cluster_job, submission

Object = dict[str, Any]
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def labels(component: str, attempt: int = 1) -> Object:
    return {"farandole.dev/component": component, "farandole.dev/attempt": str(attempt), "farandole.dev/job": JOB_ID}


def job(component: str, ended: str | None = None, attempt: int = 1, **condition: Any) -> Object:
    conditions = [{"type": ended, "status": "True", **condition}] if ended else []
    name = f"{JOB_ID}-{component}-{attempt}"
    return {"metadata": {"name": name, "labels": labels(component, attempt)}, "status": {"conditions": conditions}}


def pod(component: str, phase: str = "Running", attempt: int = 1, **status: Any) -> Object:
    meta = {"name": f"{JOB_ID}-{component}-{attempt}-x1", "labels": labels(component, attempt)}
    return {"metadata": meta, "status": {"phase": phase, "startTime": "2026-11-25T10:15:10Z", **status}}


def unschedulable(message: str) -> Object:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


def ended(code: int, message: str = "") -> Object:
    return {"containerStatuses": [{"state": {"terminated": {"exitCode": code, "message": message, "reason": "Error"}}}]}


@pytest.fixture
def store(tmp_path: Path) -> Object:
    return render(submission(cluster_job(tmp_path)))[0]


def reported(state: str, submission: int = 1, **fields: Any) -> dict[str, str]:
    return {"status": json.dumps({"state": state, "submission": submission, **fields})}


def test_unschedulable_driver(store: Object) -> None:
    waits = pod("prepare", "Pending", **unschedulable("0/1 nodes are available: 1 Insufficient memory."))
    status = job_status(JobObjects(store, {}, [job("prepare"), job("launcher")], [waits]))
    assert (status.state, status.stage) == ("queued", "prepare")
    assert (
        status.reason == f"{JOB_ID}-prepare-1-x1 cannot be scheduled: 0/1 nodes are available: 1 Insufficient memory."
    )


def test_driver_with_executors(store: Object) -> None:
    waits = pod("executor", "Pending", **unschedulable("0/1 nodes are available: 1 Insufficient cpu."))
    found = JobObjects(store, {}, [job("prepare"), job("launcher")], [pod("prepare"), pod("executor"), waits])
    status = job_status(found)
    assert status.state == "running"
    assert status.reason.startswith("prepares the dataset with 1 of Spark's executors; ")


def test_image_that_cannot_be_pulled(store: Object) -> None:
    waiting = {"image": "farandole/prepare:9", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
    waits = pod("prepare", "Pending", containerStatuses=[waiting])
    status = job_status(JobObjects(store, {}, [job("prepare"), job("launcher")], [waits]))
    assert (
        "its image farandole/prepare:9 cannot be pulled (ImagePullBackOff: no); check backend.kubernetes"
        in status.reason
    )


def test_failed_preparation(store: Object) -> None:
    gone = pod("prepare", "Failed", **ended(2, "data.sources.things: no such file"))
    status = job_status(
        JobObjects(store, {}, [job("prepare", "Failed", reason="PodFailurePolicy"), job("launcher")], [gone])
    )
    assert (status.state, status.stage) == ("failed", "prepare")
    assert status.reason == "the preparation failed: data.sources.things: no such file"


def test_unschedulable_workers(store: Object) -> None:
    pods = [pod("prepare", "Succeeded"), pod("launcher"), pod("worker", "Pending", **unschedulable(NO_GPU))]
    found = JobObjects(store, reported("queued", stage="train"), [job("prepare", "Complete"), job("launcher")], pods)
    status = job_status(found)
    assert (status.state, status.stage) == ("queued", "train")
    assert status.reason.endswith(f"cannot be scheduled: {NO_GPU}")


def test_running_training(store: Object) -> None:
    said = reported("running", stage="train", workers=2, step=37, epoch=1, reason="attempt 1 is training")
    found = JobObjects(store, said, [job("prepare", "Complete"), job("launcher")], [pod("launcher"), pod("worker")])
    status = job_status(found)
    assert (status.state, status.reason, status.step, status.workers) == ("running", "attempt 1 is training", 37, 2)
    assert status.mlflow_run_id == "0123456789abcdef"


def test_progress_of_a_running_training(store: Object) -> None:
    progress = {"stage": "train", "text": "step 37", "at": "2026-11-25T10:15:10+00:00", "done": 37, "total": 52}
    progress |= {"unit": "steps", "left_s": 4.5, "epoch": 1, "epochs": 3, "metrics": {"roc_auc": 0.75}, "newer": 1}
    pods = [pod("launcher"), pod("worker")]
    for stage, done, left_s in (("train", 37, 4.5), ("register", 0, None)):
        said = reported("running", stage="train", workers=2, progress={**progress, "stage": stage})
        found = job_status(JobObjects(store, said, [job("prepare", "Complete"), job("launcher")], pods)).progress
        assert found is not None
        assert (found.done, found.left_s, found.epochs, found.metrics) == (done, left_s, 3, {"roc_auc": 0.75})


def test_end_reported_by_the_launcher(store: Object) -> None:
    said = reported("succeeded", stage="train", reason="the training reached its end", step=52)
    said["result"] = json.dumps({"model": {"uri": "models:/small/1"}})
    found = JobObjects(
        store, said, [job("prepare", "Complete"), job("launcher", "Complete")], [pod("launcher", "Succeeded")]
    )
    status = job_status(found)
    assert (status.state, status.step) == ("succeeded", 52)
    assert status.details["result"]["model"]["uri"] == "models:/small/1"


def test_launcher_that_was_killed(store: Object) -> None:
    failed = job("launcher", "Failed", reason="BackoffLimitExceeded", message="Job has reached its limit")
    gone = pod("launcher", "Failed", **ended(137))
    status = job_status(JobObjects(store, reported("running"), [job("prepare", "Complete"), failed], [gone]))
    assert status.state == "failed"
    assert status.reason == f"{JOB_ID}-launcher-1-x1 ended with exit code 137 (Error)"


def test_exceeded_deadline(store: Object) -> None:
    failed = job("launcher", "Failed", reason="DeadlineExceeded")
    status = job_status(JobObjects(store, {}, [job("prepare", "Complete"), failed], []))
    assert (status.state, status.reason) == ("failed", "it took longer than backend.kubernetes.deadline_s")


def test_job_is_cancelled_when_none_of_its_pods_runs(store: Object) -> None:
    store["metadata"]["annotations"][CANCELLED] = "2026-11-25T10:20:00+00:00"
    jobs = [job("prepare", "Complete"), job("launcher", "Failed", reason="DeadlineExceeded")]
    ending = job_status(JobObjects(store, {}, jobs, [pod("worker")]))
    assert (ending.state, ending.reason) == ("running", f"is being cancelled; {JOB_ID}-worker-1-x1 is still ending")
    assert job_status(JobObjects(store, {}, jobs, [])).state == "cancelled"


def test_report_of_an_earlier_submission_does_not_count(tmp_path: Path) -> None:
    again = render(submission(cluster_job(tmp_path), number=2))[0]
    jobs = [job("launcher", "Failed"), job("prepare", attempt=2), job("launcher", attempt=2)]
    status = job_status(JobObjects(again, reported("failed", reason="an earlier one"), jobs, []))
    assert (status.state, status.reason) == ("queued", "the preparation's pod is about to be created")


def test_incomplete_submission(store: Object) -> None:
    status = job_status(JobObjects(store))
    assert status.state == "failed"
    assert "`farandole retry`" in status.reason


def test_pod_that_cannot_be_created(store: Object) -> None:
    refusals = ['a pod cannot be created: pods "x" is forbidden: exceeded quota: jobs']
    status = job_status(JobObjects(store, {}, [job("prepare"), job("launcher")], [], refusals=refusals))
    assert (status.state, status.reason) == ("queued", refusals[0])


def test_field_of_a_newer_launcher_is_ignored(store: Object) -> None:
    said = reported("running", stage="train", workers=2, step=37, reason="attempt 1 is training", loss=0.5)
    found = JobObjects(store, said, [job("prepare", "Complete"), job("launcher")], [pod("launcher"), pod("worker")])
    assert (job_status(found).state, job_status(found).step) == ("running", 37)


def test_status_that_cannot_be_decoded_is_refused(store: Object) -> None:
    found = JobObjects(store, {"status": json.dumps({"state": "resting", "submission": 1})})
    with pytest.raises(FarandoleError, match=r"this farandole cannot read \(LauncherStatus\.state cannot be"):
        job_status(found)
    for text in ("[]", "{", '{"submission": "1"}', '{"progress": []}', '{"progress": {"stage": "train"}}'):
        with pytest.raises(FarandoleError, match="this farandole cannot read"):
            LauncherStatus.from_json(text)
    progress = JobProgress("train", "step 3", "2026-11-25T10:15:10+00:00", 3, 9, left_s=1.5, metrics={"rmse": 2.0})
    status = LauncherStatus(2, "running", "train", "attempt 1 is training", attempt=1, workers=2, progress=progress)
    assert LauncherStatus.from_json(status.to_json()) == status


def test_list_shows_a_job_whose_status_cannot_be_read_with_its_problem(store: Object) -> None:
    found = JobObjects(store, reported={"status": '{"submission": "one"}'}, pods=[pod("launcher")])
    with pytest.raises(FarandoleError):
        job_status(found)
    shown = job_status_or_problem(found)
    assert (shown.id, shown.state) == (JOB_ID, "running")
    assert "a status that this farandole cannot read" in shown.reason
    assert job_status_or_problem(JobObjects(store, reported={"status": "[]"})).state == "failed"
