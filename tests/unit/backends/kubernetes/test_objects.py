"""Retrieval of a job's objects, from a cluster that holds plain data in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from farandole.backends.kubernetes.cluster import Cluster
from farandole.backends.kubernetes.manifests import render
from farandole.backends.kubernetes.manifests.names import JOB, SUBMISSION, labels
from farandole.backends.kubernetes.objects import fetch_all, fetch_objects
from farandole.backends.kubernetes.pod.prepare import unsuspend
from farandole.errors import SpecError
from tests.support.cluster_jobs import JOB_ID, cluster_job, submission

Object = dict[str, Any]


@dataclass
class MemoryCluster:
    """Objects in memory.

    Args:
        objects: The objects.
        refused: Events of pods that could not be created, by the name of their owner.
        patches: The changes that were requested.
    """

    objects: list[Object]
    refused: dict[str, list[Object]] = field(default_factory=dict)
    patches: list[tuple[str, str, Object]] = field(default_factory=list)
    namespace: str = "farandole"

    def get(self, kind: str, name: str) -> Object | None:
        return next((each for each in self.find(kind) if each["metadata"]["name"] == name), None)

    def find(self, kind: str, selector: str = "") -> list[Object]:
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        return [
            each
            for each in self.objects
            if each["kind"] == kind and wanted.items() <= each["metadata"].get("labels", {}).items()
        ]

    def events(self, kind: str, name: str) -> list[Object]:
        return self.refused.get(name, [])

    def patch(self, kind: str, name: str, change: Object) -> Object | None:
        self.patches.append((kind, name, change))
        return self.get(kind, name)


def _cluster(*objects: Object, **more: Any) -> tuple[MemoryCluster, Cluster]:
    memory = MemoryCluster(list(objects), **more)
    return memory, cast(Cluster, memory)


@pytest.mark.parametrize("style", ["native", "mpijob"])
def test_all_objects_of_a_job_are_found(tmp_path: Path, style: str) -> None:
    objects = render(submission(cluster_job(tmp_path, kubernetes={"style": style})))
    marks = labels(JOB_ID, "worker", "small", 1)
    pods = [{"kind": "Pod", "metadata": {"name": "p", "labels": marks}, "status": {"phase": "Running"}}]
    workload = {"kind": "Workload", "metadata": {"name": "w"}}
    _, cluster = _cluster(*objects, *pods, workload)
    found = fetch_objects(cluster, JOB_ID)
    assert (found.id, found.submission, found.trains, found.pods) == (JOB_ID, 1, True, pods)
    assert [each["kind"] for each in found.jobs] == ["Job"] * (2 if style == "native" else 1)
    assert (found.mpi is not None, found.workloads) == ((style == "mpijob"), [workload] if style == "mpijob" else [])
    (listed,) = fetch_all(cluster)
    assert (listed.store, listed.jobs, listed.pods, listed.mpi) == (found.store, found.jobs, found.pods, found.mpi)


def test_only_the_mpijob_of_the_present_submission_counts(tmp_path: Path) -> None:
    objects = render(submission(cluster_job(tmp_path, kubernetes={"style": "mpijob"}), number=2))
    old = {"kind": "MPIJob", "metadata": {"name": f"{JOB_ID}-mpi-1", "labels": {JOB: JOB_ID, SUBMISSION: "1"}}}
    _, cluster = _cluster(old, *objects)
    for found in (fetch_objects(cluster, JOB_ID), *fetch_all(cluster)):
        assert found.mpi is not None
        assert found.mpi["metadata"]["name"] == f"{JOB_ID}-mpi-2"


def test_refused_pods_are_reported_oldest_first(tmp_path: Path) -> None:
    def event(time: str, reason: str, message: str) -> Object:
        return {"reason": reason, "message": message, "lastTimestamp": time}

    refused = {
        f"{JOB_ID}-prepare-1": [event("2", "FailedCreate", "exceeded quota"), event("3", "SuccessfulCreate", "done")],
        f"{JOB_ID}-worker": [event("1", "FailedCreate", "no account")],
    }
    _, cluster = _cluster(*render(submission(cluster_job(tmp_path))), refused=refused)
    assert fetch_objects(cluster, JOB_ID).refusals == [
        "a pod cannot be created: no account",
        "a pod cannot be created: exceeded quota",
    ]


def test_unknown_job_is_reported_with_the_closest_match(tmp_path: Path) -> None:
    _, cluster = _cluster(*render(submission(cluster_job(tmp_path))))
    with pytest.raises(SpecError, match=f"no such job in the namespace farandole; did you mean {JOB_ID}"):
        fetch_objects(cluster, JOB_ID[:-1])


def test_mpijob_begins_at_once_or_enters_its_queue(tmp_path: Path) -> None:
    memory, cluster = _cluster({"kind": "MPIJob", "metadata": {"name": "a"}})
    assert unsuspend(cluster, "a", None)
    assert unsuspend(cluster, "a", "gpus")
    assert not unsuspend(cluster, "deleted", None)
    assert [change for _, _, change in memory.patches[:2]] == [
        {"spec": {"runPolicy": {"suspend": False}}},
        {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}},
    ]
