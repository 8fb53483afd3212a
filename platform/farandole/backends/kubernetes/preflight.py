"""Checks of a cluster before a submission: its API is asked, and nothing is changed."""

from __future__ import annotations

import re
from typing import Any

from farandole.backends.kubernetes.cluster import Cluster
from farandole.backends.kubernetes.manifests import CodePackage, Submission, new_id, render
from farandole.backends.kubernetes.resource_kinds import resource_kind
from farandole.backends.kubernetes.submit import adapt_to_version
from farandole.errors import SpecError
from farandole.spec import Job

Object = dict[str, Any]

SUBMIT_RIGHTS: tuple[tuple[str, str, str], ...] = (
    ("get", "ConfigMap", ""),
    ("list", "ConfigMap", ""),
    ("create", "ConfigMap", ""),
    ("patch", "ConfigMap", ""),
    ("create", "Secret", ""),
    ("patch", "Secret", ""),
    ("create", "Service", ""),
    ("patch", "Service", ""),
    ("create", "Job", ""),
    ("get", "Job", ""),
    ("list", "Job", ""),
    ("patch", "Job", ""),
    ("create", "StatefulSet", ""),
    ("patch", "StatefulSet", ""),
    ("patch", "StatefulSet", "scale"),
    ("list", "Pod", ""),
    ("get", "Pod", "log"),
    ("list", "Event", ""),
)
"""Rights that every submitter needs: verb, kind, subresource."""
MPI_RIGHTS: tuple[tuple[str, str, str], ...] = (
    ("create", "MPIJob", ""),
    ("get", "MPIJob", ""),
    ("list", "MPIJob", ""),
    ("patch", "MPIJob", ""),
)
QUEUE_RIGHTS: tuple[tuple[str, str, str], ...] = (
    ("get", "LocalQueue", ""),
    ("list", "Workload", ""),
    ("patch", "Workload", ""),
)
_OPERATORS = {
    "MPIJob": "the MPI Operator is not installed; use `style: native`, which needs none, or have it installed",
    "LocalQueue": "Kueue is not installed; leave backend.kubernetes.queue out, or have it installed",
}
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def check_job(cluster: Cluster, job: Job) -> list[str]:
    """Return the most fundamental problems; problems that follow from them are left out."""
    version = cluster.version()
    for find_problems in (_missing_rights, _missing_kinds, _quota_problems):
        problems = find_problems(cluster, job)
        if problems:
            return problems
    return _dry_run_problems(cluster, job, version)


def _dry_run_problems(cluster: Cluster, job: Job, version: tuple[int, int]) -> list[str]:
    """Return what the API and its admission controllers would reject, from a dry run of all objects."""
    candidate = Submission(new_id(job), job, cluster.namespace, CodePackage("0" * 64))
    for each in render(candidate):
        try:
            cluster.apply(adapt_to_version(each, version), dry_run=True)
        except SpecError as error:
            return [str(error)]
    return []


def _missing_rights(cluster: Cluster, job: Job) -> list[str]:
    spec = job.backend.kubernetes
    wanted = [*SUBMIT_RIGHTS]
    if spec.style == "mpijob":
        wanted += MPI_RIGHTS
    if spec.queue is not None:
        wanted += QUEUE_RIGHTS
    missing = [right for right in wanted if not is_allowed(cluster, *right)]
    if not missing:
        return []
    shown = ", ".join(f"{verb} {resource_kind(kind).shown}{f'/{part}' if part else ''}" for verb, kind, part in missing)
    return [
        f"Kubernetes, namespace {cluster.namespace}: {cluster.user()} lacks the right to {shown}; have a Role with it"
        " bound, for example farandole-submitter of k8s/base/rbac"
    ]


def is_allowed(cluster: Cluster, verb: str, kind: str, part: str = "") -> bool:
    """Return whether the present user has a right."""
    known = resource_kind(kind)
    attributes = {
        "verb": verb,
        "group": known.group,
        "resource": known.plural,
        **({"subresource": part} if part else {}),
        **({"namespace": cluster.namespace} if known.namespaced else {}),
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(cluster.create("SelfSubjectAccessReview", review)["status"]["allowed"])


def _missing_kinds(cluster: Cluster, job: Job) -> list[str]:
    spec = job.backend.kubernetes
    if spec.style == "mpijob" and not cluster.serves("MPIJob"):
        return [f"backend.kubernetes.style: mpijob, and the cluster does not serve MPIJobs: {_OPERATORS['MPIJob']}"]
    if spec.queue is None:
        return []
    if not cluster.serves("LocalQueue"):
        return [
            f"backend.kubernetes.queue: {spec.queue}, and the cluster does not serve queues: {_OPERATORS['LocalQueue']}"
        ]
    queue = cluster.get("LocalQueue", spec.queue)
    if queue is None:
        known = ", ".join(each["metadata"]["name"] for each in cluster.find("LocalQueue")) or "none"
        return [
            f"backend.kubernetes.queue: {spec.queue}: there is no such LocalQueue in the namespace"
            f" {cluster.namespace}; its queues: {known}"
        ]
    conditions = (queue.get("status") or {}).get("conditions") or []
    stopped = [each for each in conditions if each["type"] == "Active" and each["status"] == "False"]
    return [
        f"backend.kubernetes.queue: {spec.queue} accepts no jobs now: {each.get('message', each.get('reason'))}; use"
        " another one, or have it fixed"
        for each in stopped
    ]


def _quota_problems(cluster: Cluster, job: Job) -> list[str]:
    """Return requests that a ResourceQuota would not allow even if nothing else ran."""
    if not is_allowed(cluster, "list", "ResourceQuota"):
        return []
    needed = requested_resources(job)
    problems = []
    for quota in cluster.find("ResourceQuota"):
        for name, hard in (quota.get("status") or {}).get("hard", {}).items():
            amount = needed.get(name.removeprefix("requests."))
            if amount is not None and amount > parse_quantity(hard):
                problems.append(
                    f"Kubernetes, namespace {cluster.namespace}: the job requests {amount:g} {name}, and the quota"
                    f" {quota['metadata']['name']} allows {hard}; request less in backend.kubernetes and resources"
                )
    return problems


def requested_resources(job: Job) -> dict[str, float]:
    """Return the requests of the training: processors, bytes of memory, GPUs, pods."""
    spec, resources = job.backend.kubernetes, job.resources
    pods = -(-resources.workers // spec.workers_per_pod)
    requests = {
        "cpu": pods * parse_quantity(spec.worker.cpus) + parse_quantity(spec.launcher.cpus),
        "memory": pods * parse_quantity(spec.worker.memory) + parse_quantity(spec.launcher.memory),
        "pods": pods + 1.0,
    }
    devices = {"nvidia.com/gpu": resources.gpus * spec.workers_per_pod, **spec.devices}
    return requests | {name: float(count * pods) for name, count in devices.items() if count}


def parse_quantity(text: str) -> float:
    """Return the number of an amount in Kubernetes' notation, such as `500m` or `4Gi`."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    return float(match[1]) * _UNITS.get(match[2], 1.0) if match else float("inf")
