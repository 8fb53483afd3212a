"""Services on a real cluster, managed by the project's commands: deploy, use, restart, back up, undeploy."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.support.k8s_manifests import K8S, find, render
from tests.support.machine_overlay import on_this_machine
from tests.support.made_data import WriteJob
from tests.support.real_cluster import KUBECONFIG, RealCluster, needs_cluster, of_this_machine
from tests.support.recorded_training import train

pytestmark = [pytest.mark.cluster, pytest.mark.slow, needs_cluster, pytest.mark.timeout(900)]

SYSTEM = "farandole-system"
_WAIT_S = 240


@dataclass(frozen=True)
class Deployed:
    """Services in the cluster.

    Args:
        overlay: Folder of the overlay.
        output: Output of the deployment.
        took_s: Duration of the deployment, in seconds.
    """

    overlay: Path
    output: str
    took_s: float

    def deploy(self, script: str = "deploy.sh", *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `k8s/deploy.sh`, or `undeploy.sh`, with the overlay."""
        return subprocess.run(
            ["bash", K8S / script, self.overlay, *arguments],
            env=_environment(), capture_output=True, text=True, check=False, timeout=800,
        )  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(KUBECONFIG), "NO_PROXY": "*"}


def kubectl(*arguments: str, stdin: str = "", check: bool = True) -> str:
    """Run kubectl as an administrator in the namespace of the services; returns its output."""
    done = subprocess.run(
        ["kubectl", "--namespace", SYSTEM, *arguments],
        env=_environment(), input=stdin, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def secret(name: str, namespace: str = SYSTEM) -> dict[str, str]:
    """Return the values of a Secret."""
    data = json.loads(kubectl("--namespace", namespace, "get", "secret", name, "--output", "json"))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def query(sql: str, database: str = "mlflow") -> list[str]:
    """Run a query in PostgreSQL's pod; returns its rows."""
    command = ("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username", "postgres", database)
    return kubectl("exec", "-i", "postgresql-0", "--", *command, stdin=sql).splitlines()


def wait(condition: str, is_met: Callable[[], bool]) -> None:
    """Wait until a condition is met."""
    due_s = time.monotonic() + _WAIT_S
    while not is_met():
        assert time.monotonic() < due_s, f"{condition}: not within {_WAIT_S} s\n{describe_state()}"
        time.sleep(0.5)


def describe_state() -> str:
    """Return the state of the cluster, to explain why a test failed."""
    events = kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:]
    logs = [
        kubectl("logs", "--tail=30", each, check=False) for each in ("deploy/mlflow", "postgresql-0", "seaweedfs-0")
    ]
    return "\n".join([kubectl("get", "pods,pvc,jobs", "--output", "wide", check=False), events, *logs])


@contextmanager
def forwarded(service: str = "mlflow", port: int = 5000) -> Iterator[str]:
    """Forward a service to this machine by `kubectl port-forward`; returns its address."""
    process = subprocess.Popen(
        ["kubectl", "--namespace", SYSTEM, "port-forward", f"service/{service}", f":{port}"],
        env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Deploy the services for the tests of this file; skips if the cluster has them already."""
    if kubectl("get", "namespace", SYSTEM, "--ignore-not-found"):
        pytest.skip(f"the cluster has a namespace {SYSTEM} already")
    directory = Path("/tmp") / f"farandole-test-{uuid.uuid4().hex[:6]}"  # a path that the users of pods can access
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    overlay = on_this_machine(str(KUBECONFIG), of_this_machine(), directory)
    started_s = time.monotonic()
    stack = Deployed(overlay, "", 0.0)
    try:
        done = stack.deploy()
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{describe_state()}"
        yield Deployed(overlay, done.stdout + done.stderr, time.monotonic() - started_s)
    finally:
        kubectl("delete", "namespace", "farandole", SYSTEM, "--ignore-not-found", check=False)
        kubectl("delete", "--filename", str(overlay / "objects.yaml"), "--ignore-not-found", check=False)
        shutil.rmtree(directory)


def _as_administrator(directory: Path, home: Path, address: str = "") -> RealCluster:
    """Return the namespace of the jobs, with MLflow's address on this machine."""
    kubeconfig, server = str(KUBECONFIG), SimpleNamespace(uri=address)
    return RealCluster(kubeconfig, "farandole", Path(kubeconfig), directory, directory, server, home)  # type: ignore[arg-type]


def test_deployment_waits_until_all_services_are_ready(deployed: Deployed) -> None:
    print(f"measured: services, from nothing to ready: {deployed.took_s:.1f} s")
    assert "port-forward svc/mlflow 5000" in deployed.output
    ready = json.loads(kubectl("get", "statefulsets,deployments", "--output", "json"))["items"]
    assert {each["metadata"]["name"]: each["status"].get("readyReplicas") for each in ready} == {
        "postgresql": 1,
        "seaweedfs": 1,
        "mlflow": 1,
    }
    passwords = [*secret("mlflow").values(), *secret("postgresql-mlflow").values()]
    assert not any(each in deployed.output for each in passwords)


def test_second_deployment_changes_nothing(deployed: Deployed) -> None:
    def state() -> tuple[dict[str, str], list[str]]:
        pods = json.loads(kubectl("get", "pods", "--output", "json"))["items"]
        services = [each for each in pods if each["metadata"]["ownerReferences"][0]["kind"] != "Job"]
        return secret("mlflow"), sorted(each["metadata"]["uid"] for each in services)

    before = state()
    done = deployed.deploy()
    assert done.returncode == 0, done.stderr
    assert state() == before


def test_recorded_job_outlives_the_pods(deployed: Deployed, home: Path, write_job: WriteJob) -> None:
    keys = secret("farandole-credentials", "farandole")
    # Other tests may keep the machine busy, so allow long pauses between heartbeats.
    job = write_job(resources={"workers": 1, "cpus": 1, "heartbeat_timeout_s": 120}, tracking={"system_metrics": False})
    with forwarded() as address:
        done = train(job, address, keys["MLFLOW_TRACKING_USERNAME"], keys["MLFLOW_TRACKING_PASSWORD"])
        assert done.returncode == 0, done.stderr
        rejected = train(job, address, "jobs", "not-this-one-surely")
        assert rejected.returncode == 3
        assert "rejected the credentials (401); set MLFLOW_TRACKING_PASSWORD" in rejected.stderr
    run_id = json.loads(done.stdout)["training"]["mlflow_run_id"]
    sql = f"SELECT status FROM runs WHERE run_uuid = '{run_id}';"
    assert query(sql) == ["FINISHED"]

    kubectl("delete", "pod", "postgresql-0", "seaweedfs-0")
    for name in ("statefulset/postgresql", "statefulset/seaweedfs", "deploy/mlflow"):
        kubectl("rollout", "status", name, "--timeout=240s")
    assert query(sql) == ["FINISHED"]
    with forwarded() as address:
        env = _environment() | keys | {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
        script = "import mlflow, sys; print(mlflow.artifacts.list_artifacts(run_id=sys.argv[1])[0].path)"
        listed = subprocess.run(
            [sys.executable, "-c", script, run_id],
            env=env, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
    assert listed.stdout.strip() == "dataset", listed.stderr[-2000:]


def test_submitted_job_uses_all_services(
    deployed: Deployed, farandole_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses the README's job file: shards and checkpoints in S3, the run in MLflow, secrets by reference only."""
    keys = secret("farandole-credentials", "farandole")
    for name, value in {**keys, **secret("farandole-storage", "farandole")}.items():
        monkeypatch.setenv(name, value)
    services = find(render("minimal"), "ConfigMap", "farandole-services")["data"].copy()
    with forwarded() as address, forwarded("seaweedfs", 8333) as storage:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", storage)
        cluster = _as_administrator(tmp_path, farandole_home, address)
        part = cluster.part()
        part |= {
            "devices": {},  # the quota of `minimal` includes none
            "worker": {"cpus": "700m", "memory": "2Gi"},  # two of them and the services fit on a node with two CPUs
            "volumes": [each for each in part["volumes"] if each.get("read_only")],
            "storage": "s3://farandole",
            "tracking_uri": services.pop("MLFLOW_TRACKING_URI"),
            "env": services,
            "env_from": ["farandole-credentials", "farandole-storage"],
        }
        job = cluster.job_file(
            tmp_path / "job", backend__kubernetes=part, resources__gpus=0,
            train__epochs=4, train__optimizer={"learning_rate": 0.05},  # beats the baseline, so it is registered
            tracking={"uri": address, "system_metrics": False, "wait_s": 20},
        )  # fmt: skip
        (job.parent / "table.bin").write_bytes(
            os.urandom(2**20)
        )  # too large for a ConfigMap: the folder is uploaded to S3
        job_id = cluster.submit(job)
        try:
            status = cluster.wait(job_id, lambda now: now["state"] in ("succeeded", "failed", "cancelled"))
        finally:
            cluster.farandole("cancel", job_id)  # a job that is still running would block later tests
    assert status["state"] == "succeeded", cluster.story(job_id, status)
    result = status["details"]["result"]
    run_id = result["training"]["mlflow_run_id"]
    assert query(f"SELECT status FROM runs WHERE run_uuid = '{run_id}';") == ["FINISHED"]
    assert "tiny" in query("SELECT name FROM registered_models;")
    assert result["dataset"]["path"].startswith("s3://farandole/")
    code = json.loads(cluster.kubectl("get", "configmap", job_id, "-o", "json"))
    assert code.get("binaryData", {}) == {}, "the folder is in a ConfigMap"
    output = cluster.kubectl("get", "configmaps,jobs,statefulsets,pods", "-o", "json")
    output += cluster.farandole("logs", job_id).stdout
    hidden = [keys["MLFLOW_TRACKING_PASSWORD"], *secret("farandole-storage", "farandole").values()]
    assert not any(each in output for each in hidden)


def test_users_are_added_in_the_pod(deployed: Deployed) -> None:
    command = ("exec", "-i", "deploy/mlflow", "--", "python", "/opt/mlflow/users.py")
    assert kubectl(*command, "add", "alice", stdin="the-password-of-alice\n") == "alice: added\n"
    assert {"admin", "alice", "jobs"} <= set(kubectl(*command, "list").split())


def test_backup_runs_from_its_template(deployed: Deployed) -> None:
    objects = list(yaml.safe_load_all((deployed.overlay / "objects.yaml").read_text()))
    for name, script in (("backup-now", "backup.sh"), ("restore", "restore.sh")):
        spec = json.loads(json.dumps(find(objects, "CronJob", "postgresql-backup")["spec"]["jobTemplate"]["spec"]))
        container = spec["template"]["spec"]["containers"][0]
        container["command"] = ["sh", f"/scripts/{script}"]
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        kubectl("create", "--filename", "-", stdin=json.dumps(job))
        kubectl("wait", "--for", "condition=complete", f"job/{name}", "--timeout=240s")
    assert "mlflow_auth: restored from 20" in kubectl("logs", "job/restore")
    assert "jobs" in query("SELECT username FROM users;", "mlflow_auth")


def test_undeploy_is_rejected_while_a_job_runs(deployed: Deployed) -> None:
    """Without the rights of its account a launcher could not release its workers."""
    # Its image does not exist, so the pod waits, but has not ended.
    kubectl(
        "run", "worker", "--namespace", "farandole", "--image", "farandole/none", "--labels", "farandole.dev/job=a-1"
    )
    try:
        rejected = deployed.deploy("undeploy.sh")
        assert rejected.returncode == 2
        assert "jobs are running: a-1; wait until they end, or cancel them: farandole cancel ID" in rejected.stderr
        assert "statefulset.apps/postgresql" in kubectl("get", "statefulsets", "--output", "name")
    finally:
        kubectl("delete", "pod", "worker", "--namespace", "farandole", "--now")


def test_redeployed_services_keep_their_data(deployed: Deployed) -> None:
    before = query("SELECT run_uuid FROM runs ORDER BY 1;"), secret("mlflow")
    done = deployed.deploy("undeploy.sh")
    assert done.returncode == 0, done.stderr
    running = (
        "get",
        "pods",
        "--field-selector",
        "status.phase=Running",
        "--output",
        "name",
    )  # the pods of jobs have ended
    wait("no pod runs", lambda: not kubectl(*running))
    assert kubectl("get", "deployments,statefulsets,services,networkpolicies", "--output", "name") == ""
    assert "persistentvolumeclaim/data-postgresql-0" in kubectl("get", "pvc", "--output", "name")
    assert deployed.deploy().returncode == 0
    assert (query("SELECT run_uuid FROM runs ORDER BY 1;"), secret("mlflow")) == before


def test_purge_deletes_everything(deployed: Deployed) -> None:
    done = deployed.deploy("undeploy.sh", "--purge")
    assert done.returncode == 0, done.stderr
    assert kubectl("get", "namespace", SYSTEM, "farandole", "--ignore-not-found") == ""


def test_overlay_with_queues_requires_kueue(deployed: Deployed) -> None:
    """The error is reported before any change."""
    assert find(render("gpu"), "ClusterQueue", "farandole")
    if kubectl("get", "crd", "clusterqueues.kueue.x-k8s.io", "--ignore-not-found"):
        pytest.skip("the cluster knows Kueue's kinds")
    done = subprocess.run(
        ["bash", K8S / "deploy.sh", "gpu"], env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "gpu uses Kueue, which is not installed in this cluster" in done.stderr
