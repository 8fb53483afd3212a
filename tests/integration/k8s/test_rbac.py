"""Roles grant exactly the rights that the code uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.backends.kubernetes.manifests import render as render_job
from farandole.backends.kubernetes.manifests.serving import ServiceSpec, render_service
from farandole.backends.kubernetes.preflight import MPI_RIGHTS, QUEUE_RIGHTS, SUBMIT_RIGHTS
from farandole.backends.kubernetes.resource_kinds import resource_kind
from tests.support.cluster_jobs import cluster_job, submission
from tests.support.k8s_manifests import K8S, OVERLAYS, Object, find, render, shown
from tests.support.paths import PACKAGE

Right = tuple[str, str]
"""A verb, and resources as RBAC writes them: `statefulsets.apps/scale`."""
Usage = tuple[str, str]
"""A folder below `platform/farandole`, and the code in it that uses the right."""

_CLIENT = "backends/kubernetes"
_LAUNCHER = "backends/kubernetes/pod"
_SPARK = ("spark", "Spark's scheduler for Kubernetes")
"""Rights on executors, which ExecutorPodsAllocator and KubernetesClusterSchedulerBackend create and delete, watch and
list for snapshots, and patch to mark them as inactive. Spark deletes other objects by label, whether or not they
exist."""

SUBMITTER: dict[Right, Usage] = {
    ("get", "configmaps"): (_CLIENT, '.get("ConfigMap"'),
    ("list", "configmaps"): (_CLIENT, '.find("ConfigMap"'),
    ("get", "jobs.batch"): (_LAUNCHER, '.get("Job"'),
    ("list", "jobs.batch"): (_CLIENT, '.find("Job"'),
    ("patch", "statefulsets.apps/scale"): (_CLIENT, 'part="/scale"'),
    ("list", "pods"): (_CLIENT, '.find("Pod"'),
    ("get", "pods/log"): (_CLIENT, ".log(name, follow=follow"),
    ("list", "events"): (_CLIENT, ".events(kind, name)"),
    ("list", "resourcequotas"): (_CLIENT, '.find("ResourceQuota")'),
    ("get", "mpijobs.kubeflow.org"): (_CLIENT, '.get("MPIJob"'),
    ("list", "mpijobs.kubeflow.org"): (_CLIENT, '("Job", "Pod", "MPIJob")'),
    ("list", "workloads.kueue.x-k8s.io"): (_CLIENT, '.find("Workload")'),
    ("patch", "workloads.kueue.x-k8s.io"): (_CLIENT, '.patch("Workload"'),
    ("get", "localqueues.kueue.x-k8s.io"): (_CLIENT, '.get("LocalQueue"'),
    ("list", "localqueues.kueue.x-k8s.io"): (_CLIENT, '.find("LocalQueue")'),
}
"""Rights besides `create` and `patch` of the submitted objects, which server-side apply needs."""
LAUNCHER: dict[Right, Usage] = {
    ("list", "pods"): (_LAUNCHER, '.find("Pod"'),
    ("get", "jobs.batch"): (_LAUNCHER, '.get("Job"'),
    ("patch", "statefulsets.apps/scale"): (_LAUNCHER, 'part="/scale"'),
    ("patch", "configmaps"): (_LAUNCHER, '.patch("ConfigMap"'),
}
SPARK: dict[Right, Usage] = {
    **{(verb, "pods"): _SPARK for verb in ("create", "get", "list", "watch", "patch", "delete", "deletecollection")},
    **{("deletecollection", each): _SPARK for each in ("configmaps", "persistentvolumeclaims", "services")},
    ("patch", "mpijobs.kubeflow.org"): (_CLIENT, '.patch("MPIJob"'),
}


DEPLOYER: dict[Right, Usage] = {
    ("get", "deployments.apps"): (_CLIENT, '.get("Deployment"'),
    ("list", "deployments.apps"): (_CLIENT, '.find("Deployment"'),
    ("list", "pods"): (_CLIENT, '.find("Pod"'),
    ("list", "replicasets.apps"): (_CLIENT, '.find("ReplicaSet"'),
    ("create", "secrets"): (_CLIENT, ".create_missing(_access_secret()"),
}
"""Rights besides those to apply and delete the objects of a service."""


def _granted(role: Object) -> set[Right]:
    rights = set()
    for rule in role["rules"]:
        for group in rule.get("apiGroups", ()):
            for resource in rule["resources"]:
                name, slash, part = resource.partition("/")
                rights |= {(verb, f"{name}.{group}".rstrip(".") + slash + part) for verb in rule["verbs"]}
        for path in rule.get("nonResourceURLs", ()):
            rights |= {(verb, path) for verb in rule["verbs"]}
    return rights


def _role(name: str) -> set[Right]:
    return _granted(find(render("gpu"), "Role", name, "farandole"))


def _submitted(folder: Path) -> set[Right]:
    """Return the rights that applying the objects of both styles needs."""
    kinds = set()
    for style in ({}, {"style": "mpijob", "queue": "farandole"}):
        job = cluster_job(folder, kubernetes=style)
        kinds |= {each["kind"] for each in render_job(submission(job))}
    return {(verb, resource_kind(kind).shown) for kind in kinds for verb in ("create", "patch")}


def test_submitter_role_grants_exactly_what_submission_uses(tmp_path: Path) -> None:
    (tmp_path / "things.csv").write_text("width,label\n1,true\n")
    assert _role("farandole-submitter") == _submitted(tmp_path) | set(SUBMITTER)


def test_preflight_checks_every_right_of_a_submitter() -> None:
    """Rights to list quotas and queues only improve messages, so preflight does not require them."""
    checked = {
        (verb, resource_kind(kind).shown + (f"/{part}" if part else ""))
        for verb, kind, part in (*SUBMIT_RIGHTS, *MPI_RIGHTS, *QUEUE_RIGHTS)
    }
    assert checked | {("list", "resourcequotas"), ("list", "localqueues.kueue.x-k8s.io")} == _role(
        "farandole-submitter"
    )


@pytest.mark.parametrize(("role", "table"), [("farandole-launcher", LAUNCHER), ("farandole-spark", SPARK)])
def test_pod_roles_grant_exactly_what_their_code_uses(role: str, table: dict[Right, Usage]) -> None:
    assert _role(role) == set(table)


def test_deployer_role_grants_exactly_what_a_deployment_uses() -> None:
    kinds = {each["kind"] for each in render_service(ServiceSpec("models:/flights/1"))}
    applied = {(verb, resource_kind(kind).shown) for kind in kinds for verb in ("create", "patch", "delete")}
    assert _role("farandole-deployer") == applied | set(DEPLOYER)


@pytest.mark.parametrize("table", [SUBMITTER, LAUNCHER, SPARK, DEPLOYER])
def test_every_right_is_used_in_the_code(table: dict[Right, Usage]) -> None:
    code = {
        folder: "\n".join(path.read_text() for path in sorted((PACKAGE / folder).glob("*.py")))
        for folder in (_CLIENT, _LAUNCHER)
    }
    unused = [right for right, usage in table.items() if usage != _SPARK and usage[1] not in code[usage[0]]]
    assert unused == []


def test_prometheus_role_grants_exactly_what_it_scrapes() -> None:
    role = _granted(find(render("gpu"), "ClusterRole", "farandole-prometheus"))
    config = yaml.safe_load((K8S / "base" / "monitoring" / "prometheus.yml").read_text())
    wanted: set[Right] = set()
    for job in config["scrape_configs"]:
        for found in job.get("kubernetes_sd_configs", ()):
            wanted |= {(verb, {"pod": "pods", "node": "nodes"}[found["role"]]) for verb in ("list", "watch")}
            if found["role"] == "node":
                assert job["metrics_path"].startswith("/metrics")
                wanted.add(("get", "nodes/metrics"))
        if job["job_name"] == "queues":
            wanted.add(("get", "/metrics"))
    assert role == wanted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_roles_are_namespaced_and_bound(overlay: str) -> None:
    objects = render(overlay)
    roles = [each for each in objects if each["kind"] in ("Role", "ClusterRole")]
    for role in roles:
        parts = [part for rule in role["rules"] for part in (*rule["verbs"], *rule.get("resources", ()))]
        assert not any("*" in part for part in parts), shown(role)
    assert {each["metadata"]["name"] for each in roles if each["kind"] == "ClusterRole"} <= {"farandole-prometheus"}
    bound: dict[str, set[str]] = {}
    for binding in (each for each in objects if each["kind"] in ("RoleBinding", "ClusterRoleBinding")):
        names = {_subject(each) for each in binding["subjects"]}
        assert not names & {"default", "system:authenticated", "system:unauthenticated", "system:serviceaccounts"}
        bound.setdefault(binding["roleRef"]["name"], set()).update(names)
    assert {each["metadata"]["name"] for each in roles} == set(bound)
    assert bound["farandole-submitter"] == {"farandole-submitters", "jupyterlab"}
    assert bound["farandole-deployer"] == {"farandole-deployers"}
    assert bound["farandole-spark"] == {"farandole-spark", "jupyterlab"}
    assert not any("farandole-worker" in names for names in bound.values()), "workers run users' code"


def _subject(subject: dict[str, Any]) -> str:
    return str(subject["name"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_pods_that_use_the_api_have_a_token(overlay: str) -> None:
    with_token = {
        each["metadata"]["name"]
        for each in render(overlay)
        if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet")
        and each["spec"]["template"]["spec"]["automountServiceAccountToken"]
    }
    assert with_token <= {"jupyterlab", "prometheus"}
    for account in (each for each in render(overlay) if each["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, shown(account)
