"""A service on a real cluster: deployed, asked with and without a key, promoted and disturbed under load, removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.k8s_manifests import K8S
from tests.support.real_cluster import IMAGE, RealCluster, needs_cluster, of_this_machine, real_cluster
from tests.support.served import ROW, make_bundle
from tests.support.service_clients import Answer, Load, ask

__all__ = ["real_cluster"]

pytestmark = [pytest.mark.cluster, pytest.mark.slow, needs_cluster, pytest.mark.timeout(900)]

SERVICE = "serving-flights"
_WAIT_S = 300


@dataclass(frozen=True)
class Service:
    """The deployed service.

    Args:
        cluster: Its cluster.
        url: Its address in the cluster, which this machine reaches.
        key: A key with the scope predict.
        result: What `farandole deploy --json` printed.
    """

    cluster: RealCluster
    url: str
    key: str
    result: dict[str, Any]

    def version(self) -> str:
        """Return the version that answers."""
        return str(ask(self.url, "/predict", {"rows": [ROW]}, key=self.key).json["model"]["version"])


def _wait(what: str, is_met: Callable[[], bool], cluster: RealCluster) -> None:
    due_s = time.monotonic() + _WAIT_S
    while not is_met():
        state = cluster.kubectl("get", "pods,deployments,events", check=False) if time.monotonic() > due_s else ""
        assert not state, f"{what}: not within {_WAIT_S} s\n{state}"
        time.sleep(0.5)


def _register(uri: str, directory: Path) -> None:
    """Register two versions of a small model, and call the first one champion."""
    client = MlflowClient(uri)
    experiment = client.create_experiment("serving")
    client.create_registered_model("flights")
    for seed in (1, 2):
        model = directory / str(seed)
        make_bundle(model / "artifacts" / "bundle", seed=seed)
        (model / "MLmodel").write_text("flavors: {}\n")
        logged = client.create_logged_model(experiment)
        client.log_model_artifacts(logged.model_id, str(model))
        client.finalize_logged_model(logged.model_id, "READY")
        client.create_model_version("flights", logged.artifact_location, model_id=logged.model_id)
    client.set_registered_model_alias("flights", "champion", "1")


def _machine_patch() -> str:
    """Return a change of the Deployment by which its pods run this machine's own Python."""
    mounts = of_this_machine()
    path = [str(Path(sys.executable).parent), "/usr/bin", "/bin"]
    container = {
        "name": "serving",
        "env": [{"name": "PATH", "value": os.pathsep.join(path)}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [
            {"name": f"machine-{number}", "mountPath": each["mount_path"], "readOnly": True}
            for number, each in enumerate(mounts)
        ],
    }
    volumes = [
        {"name": f"machine-{number}", "hostPath": {"path": each["host_path"]}} for number, each in enumerate(mounts)
    ]
    pod = {"containers": [container], "volumes": volumes}
    # The first pods request more than the node has room for beside them, so all of them are replaced at once.
    strategy = {"rollingUpdate": {"maxUnavailable": 2}}
    return json.dumps({"spec": {"strategy": strategy, "template": {"spec": pod}}})


@pytest.fixture(scope="module")
def service(real_cluster: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Register, deploy and make a key, by the project's commands."""
    cluster = real_cluster
    _register(cluster.mlflow.uri, tmp_path_factory.mktemp("models"))
    cluster.kubectl(
        "create", "configmap", "farandole-services", f"--from-literal=MLFLOW_TRACKING_URI={cluster.mlflow.uri}"
    )
    cluster.kubectl("create", "secret", "generic", "farandole-credentials", "--from-literal=UNUSED=1")
    command = ["deploy", "models:/flights@champion", "--replicas", "2:3", "--namespace", cluster.namespace]
    process = subprocess.Popen(
        [sys.executable, "-m", "farandole", *command, "--image", IMAGE, "--json"],
        env=cluster.environment(Path(cluster.admin)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _wait("created", lambda: SERVICE in cluster.kubectl("get", "deployments", "-o", "name"), cluster)
        cluster.kubectl("patch", "deployment", SERVICE, "--patch", _machine_patch())
        output, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    logs = cluster.kubectl("logs", f"deploy/{SERVICE}", "--tail=20", check=False)
    assert process.returncode == 0, f"{errors}\n{logs}"
    address = cluster.kubectl("get", "service", SERVICE, "-o", "jsonpath={.spec.clusterIP}")
    key = _keys(cluster, "create", "--name", "web", "--scope", "predict").strip()
    url = f"http://{address}:8080"
    # A changed annotation has the kubelet renew the pods' files now. Each pod has to know the key.
    cluster.kubectl("annotate", "pods", "-l", f"app.kubernetes.io/name={SERVICE}", "farandole.dev/keys=changed")
    _wait("key", lambda: {ask(url, "/predict", {"rows": [ROW]}, key=key).status for _ in range(30)} == {200}, cluster)
    yield Service(cluster, url, key, json.loads(output))
    cluster.farandole("undeploy", "flights", "--namespace", cluster.namespace, user=Path(cluster.admin))


def _keys(cluster: RealCluster, *arguments: str) -> str:
    """Run `k8s/keys.sh` as an administrator."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**cluster.environment(Path(cluster.admin)), "NAMESPACE": cluster.namespace, "PATH": path}
    done = subprocess.run(
        ["bash", K8S / "keys.sh", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _refused(answers: list[Answer]) -> list[int]:
    return [each.status for each in answers if each.status != 200]


def test_deployed_service_answers_callers_with_a_key(service: Service) -> None:
    assert service.result["replicas"] == 2
    assert service.result["url"] == f"http://{SERVICE}.{service.cluster.namespace}:8080"
    assert ask(service.url, "/predict", {"rows": [ROW]}).status == 401
    assert ask(service.url, "/v2/health/ready").status == 200
    assert ask(service.url, "/metrics", key=service.key).status == 403
    assert service.version() == "1"
    assert "web" in _keys(service.cluster, "list")


def test_promotion_reaches_the_pods_without_a_failed_request(service: Service) -> None:
    client = MlflowClient(service.cluster.mlflow.uri)
    with Load(service.url, {"rows": [ROW]}, clients=2, key=service.key, reconnects=True) as load:
        client.set_registered_model_alias("flights", "champion", "2")
        due_s = time.monotonic() + _WAIT_S
        while {service.version() for _ in range(10)} != {"2"}:
            assert time.monotonic() < due_s
    assert (_refused(load.answers), load.lost) == ([], [])
    assert {each.json["model"]["version"] for each in load.answers} >= {"1"}
    client.set_registered_model_alias("flights", "champion", "1")
    _wait("rolled back", lambda: {service.version() for _ in range(10)} == {"1"}, service.cluster)


def test_ended_pod_fails_no_request(service: Service) -> None:
    cluster = service.cluster
    victim = cluster.objects("pods", f"app.kubernetes.io/name={SERVICE}")[0]["metadata"]["name"]
    with Load(service.url, {"rows": [ROW]}, clients=2, key=service.key, reconnects=True) as load:
        cluster.kubectl("delete", "pod", victim, "--wait=true")
        _wait("replaced", lambda: _ready(cluster) == 2, cluster)
    assert load.answers
    assert (_refused(load.answers), load.lost) == ([], [])


def _ready(cluster: RealCluster) -> int:
    return int(cluster.kubectl("get", "deployment", SERVICE, "-o", "jsonpath={.status.readyReplicas}") or 0)


def test_service_without_its_model_says_why_it_cannot_start(service: Service) -> None:
    cluster = service.cluster
    done = cluster.farandole(
        "deploy", "models:/none@champion", "--namespace", cluster.namespace, "--image", "docker.io/lab/none:1",
        "--timeout", "200", user=Path(cluster.admin),
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "serving-none cannot start" in done.stderr
    assert "its image docker.io/lab/none:1 cannot be pulled" in done.stderr
    removed = cluster.farandole("undeploy", "none", "--namespace", cluster.namespace, user=Path(cluster.admin))
    assert removed.returncode == 0, removed.stderr


def test_removed_service_leaves_only_its_keys(service: Service) -> None:
    cluster = service.cluster
    unknown = cluster.farandole("undeploy", "flight", "--namespace", cluster.namespace, user=Path(cluster.admin))
    assert unknown.returncode == 2
    assert "there is no service flight; did you mean flights?" in unknown.stderr
    done = cluster.farandole("undeploy", "flights", "--namespace", cluster.namespace, user=Path(cluster.admin))
    assert done.returncode == 0, done.stderr
    left = cluster.kubectl("get", "deployments,services,networkpolicies,serviceaccounts", "-o", "name")
    assert SERVICE not in left
    assert "secret/serving-access" in cluster.kubectl("get", "secrets", "-o", "name")
