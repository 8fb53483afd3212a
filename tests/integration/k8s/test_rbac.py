"""Rights: each one that a Role grants has a place in the code that uses it, and the code needs no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.backends.kubernetes.manifests import render as render_job
from farandole.backends.kubernetes.preflight import MPI_RIGHTS, QUEUE_RIGHTS, SUBMIT_RIGHTS
from farandole.backends.kubernetes.resource_kinds import resource_kind
from tests.support.cluster_jobs import cluster_job, submission
from tests.support.k8s_manifests import K8S, OVERLAYS, Object, find, render, shown
from tests.support.paths import ROOT

Right = tuple[str, str]
"""A verb, and resources as RBAC writes them: `statefulsets.apps/scale`."""
Place = tuple[str, str]
"""A file below `platform/farandole`, and what it does there."""

_KUBERNETES = "backends/kubernetes"
_SPARK = ("spark", "Spark's scheduler for Kubernetes, which is no code of ours")
"""Of executors: made and removed by ExecutorPodsAllocator and KubernetesClusterSchedulerBackend, watched and listed for
snapshots, patched when they are marked as inactive. What else Spark might have made it removes by label, without asking
whether there is any."""

SUBMITTER: dict[Right, Place] = {
    ("get", "configmaps"): (f"{_KUBERNETES}/backend.py", '.get("ConfigMap", job_id)'),
    ("list", "configmaps"): (f"{_KUBERNETES}/backend.py", '.find("ConfigMap", ours)'),
    ("get", "jobs.batch"): (f"{_KUBERNETES}/inside/supervise.py", '.get("Job", name)'),
    ("list", "jobs.batch"): (f"{_KUBERNETES}/backend.py", '.find("Job", of_job)'),
    ("patch", "statefulsets.apps/scale"): (f"{_KUBERNETES}/backend.py", 'part="/scale"'),
    ("list", "pods"): (f"{_KUBERNETES}/backend.py", '.find("Pod", of_job)'),
    ("get", "pods/log"): (f"{_KUBERNETES}/following.py", ".log(name, follow=follow"),
    ("list", "events"): (f"{_KUBERNETES}/backend.py", ".events(kind, name)"),
    ("list", "resourcequotas"): (f"{_KUBERNETES}/checking.py", '.find("ResourceQuota")'),
    ("get", "mpijobs.kubeflow.org"): (f"{_KUBERNETES}/backend.py", '.get("MPIJob",'),
    ("list", "mpijobs.kubeflow.org"): (f"{_KUBERNETES}/backend.py", '("Job", "Pod", "MPIJob")'),
    ("list", "workloads.kueue.x-k8s.io"): (f"{_KUBERNETES}/backend.py", '.find("Workload")'),
    ("patch", "workloads.kueue.x-k8s.io"): (f"{_KUBERNETES}/backend.py", '.patch("Workload"'),
    ("get", "localqueues.kueue.x-k8s.io"): (f"{_KUBERNETES}/checking.py", '.get("LocalQueue", spec.queue)'),
    ("list", "localqueues.kueue.x-k8s.io"): (f"{_KUBERNETES}/checking.py", '.find("LocalQueue")'),
}
"""Beside `create` and `patch` of what a submission consists of, which server-side apply needs."""
LAUNCHER: dict[Right, Place] = {
    ("list", "pods"): (f"{_KUBERNETES}/inside/workers.py", '.find("Pod", selector(self.job_id, WORKER)'),
    ("get", "jobs.batch"): (f"{_KUBERNETES}/inside/supervise.py", '.get("Job", name)'),
    ("patch", "statefulsets.apps/scale"): (f"{_KUBERNETES}/inside/workers.py", 'part="/scale"'),
    ("patch", "configmaps"): (f"{_KUBERNETES}/inside/report.py", '.patch("ConfigMap", self._name'),
}
SPARK: dict[Right, Place] = {
    **{(verb, "pods"): _SPARK for verb in ("create", "get", "list", "watch", "patch", "delete", "deletecollection")},
    **{("deletecollection", each): _SPARK for each in ("configmaps", "persistentvolumeclaims", "services")},
    ("patch", "mpijobs.kubeflow.org"): (f"{_KUBERNETES}/releasing.py", '.patch("MPIJob", name'),
}


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
    """What applying the objects of both styles takes."""
    kinds = set()
    for style in ({}, {"style": "mpijob", "queue": "farandole"}):
        job = cluster_job(folder, kubernetes=style)
        kinds |= {each["kind"] for each in render_job(submission(job))}
    return {(verb, resource_kind(kind).shown) for kind in kinds for verb in ("create", "patch")}


def test_a_submitter_may_do_what_submitting_takes_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "things.csv").write_text("width,label\n1,true\n")
    assert _role("farandole-submitter") == _submitted(tmp_path) | set(SUBMITTER)


def test_a_missing_right_of_a_submitter_is_told_before_anything_is_made() -> None:
    """`check` asks for each; those to see quotas and the names of queues only make its messages better."""
    asked = {
        (verb, resource_kind(kind).shown + (f"/{part}" if part else ""))
        for verb, kind, part in (*SUBMIT_RIGHTS, *MPI_RIGHTS, *QUEUE_RIGHTS)
    }
    assert asked | {("list", "resourcequotas"), ("list", "localqueues.kueue.x-k8s.io")} == _role("farandole-submitter")


@pytest.mark.parametrize(("role", "table"), [("farandole-launcher", LAUNCHER), ("farandole-spark", SPARK)])
def test_the_pods_may_do_what_their_code_does_and_no_more(role: str, table: dict[Right, Place]) -> None:
    assert _role(role) == set(table)


@pytest.mark.parametrize("table", [SUBMITTER, LAUNCHER, SPARK])
def test_every_right_has_its_place_in_the_code(table: dict[Right, Place]) -> None:
    gone = [
        (right, place)
        for right, place in table.items()
        if place != _SPARK and place[1] not in (ROOT / "platform" / "farandole" / place[0]).read_text()
    ]
    assert gone == []


def test_prometheus_may_find_and_ask_what_it_is_told_to_scrape() -> None:
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
def test_roles_are_of_one_namespace_and_bound_to_somebody(overlay: str) -> None:
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
    assert bound["farandole-spark"] == {"farandole-spark", "jupyterlab"}
    assert not any("farandole-worker" in names for names in bound.values()), "workers run users' code"


def _subject(subject: dict[str, Any]) -> str:
    return str(subject["name"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_pods_that_ask_the_api_get_a_token(overlay: str) -> None:
    with_token = {
        each["metadata"]["name"]
        for each in render(overlay)
        if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet")
        and each["spec"]["template"]["spec"]["automountServiceAccountToken"]
    }
    assert with_token <= {"jupyterlab", "prometheus"}
    for account in (each for each in render(overlay) if each["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, shown(account)
