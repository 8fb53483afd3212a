"""Jobs on a real cluster, from the side of a submitter with only the rights of `k8s/base/rbac`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.real_cluster import REPOSITORY, RealCluster, needs_cluster, real_cluster

__all__ = ["real_cluster"]

pytestmark = [pytest.mark.cluster, pytest.mark.slow, needs_cluster, pytest.mark.timeout(900)]

Object = dict[str, Any]
CRDS = os.environ.get("FARANDOLE_CRD_DIR")


def ended(status: Object) -> bool:
    return status["state"] in ("succeeded", "failed", "cancelled")


NETWORK = """
import os
from farandole.models import mlp

def build(schema):
    print(f"this is rank {os.environ['HOROVOD_RANK']} of {os.environ['HOROVOD_SIZE']}", flush=True)
    return mlp.build(schema, hidden=[8])
"""
"""A module of the user, which is sent with the job."""


def trains(status: Object) -> bool:
    return status["state"] == "running" and status["stage"] == "train" and status["step"] > 0


def print_time(name: str, seconds: float) -> None:
    print(f"\n{name}: {seconds:.1f} s")


@pytest.fixture
def cluster(real_cluster: RealCluster, farandole_home: Path) -> Iterator[RealCluster]:
    real_cluster.home = farandole_home
    yield real_cluster
    real_cluster.end_started()


def test_job_runs_from_submission_to_a_model(cluster: RealCluster, tmp_path: Path) -> None:
    """Prepare, train two workers over SSH as user 1000 with the user's code, and register the model.

    The weights equal those of a run on this machine.
    """
    job = cluster.job_file(tmp_path / "job", train__epochs=3, model={"builder": "network:build"})
    (job.parent / "network.py").write_text(NETWORK)
    begun_s = time.monotonic()
    job_id = cluster.submit(job)
    follower = cluster.start("logs", job_id, "--follow", "--rank", "1")
    print_time("submit", time.monotonic() - begun_s)
    cluster.wait(job_id, lambda now: trains(now) or ended(now))
    print_time("from submission to the first step seen", time.monotonic() - begun_s)
    status = cluster.wait(job_id, ended)
    print_time("from submission to the end", time.monotonic() - begun_s)
    assert status["state"] == "succeeded", cluster.story(job_id, status)
    assert status["mlflow_run_id"]
    result = status["details"]["result"]
    assert result["model"]["uri"] == "models:/tiny/1"
    assert result["training"]["workers"] == 2
    assert result["training"]["mlflow_run_id"] == status["mlflow_run_id"]
    log = cluster.farandole("logs", job_id).stdout
    assert "train: training on 2 workers" in log
    of_rank_1, _ = follower.communicate(timeout=60)
    assert follower.returncode == 0, of_rank_1
    assert "this is rank 1 of 2" in of_rank_1
    assert "this is rank 0" not in of_rank_1
    assert cluster.left(job_id) == []
    assert cluster.pods(job_id, "worker") == []
    local = cluster.farandole(
        "run", str(job), "--json", "--set", f"data.output={tmp_path / 'local'}",
        "--set", "tracking.register_as=null",
    )  # fmt: skip
    assert local.returncode == 0, local.stderr
    here = json.loads(local.stdout)
    assert here["dataset"]["digest"] == result["dataset"]["digest"]
    assert here["training"]["weights_digest"] == result["training"]["weights_digest"]


def test_flights_job_is_prepared_by_spark_executors(cluster: RealCluster, tmp_path: Path) -> None:
    """Run a small flights job: a driver with two executor pods, then two workers."""
    job = REPOSITORY / "jobs" / "flights" / "job.yaml"
    query = [line for line in job.read_text().splitlines() if "WHERE f.arr_delay" in line]
    assert len(query) == 1
    text = job.read_text().replace(query[0], query[0] + " AND f.month = 1 AND f.day < 15")
    folder = tmp_path / "flights"
    folder.mkdir()
    (folder / "job.yaml").write_text(text)
    settings = [f"backend.kubernetes={json.dumps(cluster.part())}", f"tracking.uri={cluster.mlflow.uri}"]
    settings += ["train.epochs=1", "train.global_batch_size=512", "tracking.wait_s=20"]
    settings += ["data.memory=512m"]
    begun_s = time.monotonic()
    job_id = cluster.submit(folder / "job.yaml", *settings)
    prepares = cluster.wait(job_id, lambda now: "with 2 of Spark" in now["reason"] or ended(now))
    assert prepares["stage"] == "prepare", cluster.story(job_id, prepares)
    executors = cluster.pods(job_id, "executor")
    assert len(executors) == 2
    status = cluster.wait(job_id, ended)
    print_time("flights, from submission to the end", time.monotonic() - begun_s)
    assert status["state"] == "succeeded", cluster.story(job_id, status)
    assert cluster.pods(job_id, "executor") == []
    rank = cluster.farandole("logs", job_id, "--rank", "1")
    assert rank.returncode == 0, rank.stderr


def test_lost_worker_pod_is_recreated(cluster: RealCluster, tmp_path: Path) -> None:
    job_id = cluster.submit(cluster.job_file(tmp_path / "job", train__epochs=400))
    cluster.wait(job_id, trains)
    (victim, _) = sorted(pod["metadata"]["name"] for pod in cluster.pods(job_id, "worker"))
    begun_s = time.monotonic()
    cluster.kubectl("delete", "pod", victim, "--wait=false")
    status = cluster.wait(job_id, lambda now: now["attempt"] >= 2 and trains(now))
    print_time("from the deletion of a worker's pod to the next step", time.monotonic() - begun_s)
    assert status["workers"] == 2
    cancel(cluster, job_id)


def test_killed_worker_is_restarted(cluster: RealCluster, tmp_path: Path) -> None:
    job_id = cluster.submit(cluster.job_file(tmp_path / "job", train__epochs=400))
    cluster.wait(job_id, trains)
    (victim, _) = sorted(pod["metadata"]["name"] for pod in cluster.pods(job_id, "worker"))
    begun_s = time.monotonic()
    script = "for p in /proc/[0-9]*; do grep -qz farandole.training.worker $p/cmdline && kill -9 ${p#/proc/}; done"
    cluster.kubectl("exec", victim, "--", "/bin/bash", "-c", script, check=False)
    status = cluster.wait(job_id, lambda now: now["attempt"] >= 2 and trains(now))
    print_time("from the killing of a worker to the next step", time.monotonic() - begun_s)
    assert status["workers"] == 2
    names = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
             for pod in cluster.pods(job_id, "worker")}  # fmt: skip
    assert names[victim] == 0  # its pod lives: only the worker's own process ended
    cancel(cluster, job_id)


def cancel(cluster: RealCluster, job_id: str) -> Object:
    """Cancel a job, and check that nothing of it is left."""
    done = cluster.farandole("cancel", job_id, "--json")
    assert done.returncode == 0, done.stderr
    status: Object = json.loads(done.stdout)
    assert status["state"] == "cancelled", cluster.story(job_id, status)
    assert cluster.left(job_id) == []
    assert cluster.objects("statefulsets", f"farandole.dev/job={job_id}")[0]["spec"]["replicas"] == 0
    return status


def test_job_waits_for_gpus_with_a_reason(cluster: RealCluster, tmp_path: Path) -> None:
    with WithoutGpus(cluster):
        job_id = cluster.submit(cluster.job_file(tmp_path / "job", train__epochs=1))
        status = cluster.wait(job_id, lambda now: "nvidia.com/gpu" in now["reason"] or ended(now))
        assert status["state"] == "queued"
        assert "Insufficient nvidia.com/gpu" in status["reason"]
    status = cluster.wait(job_id, ended)
    assert status["state"] == "succeeded", cluster.story(job_id, status)


class WithoutGpus:
    """Context that removes the nodes' GPUs.

    Args:
        cluster: The cluster.
    """

    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster

    def __enter__(self) -> None:
        nodes = json.loads(self._cluster.kubectl("get", "nodes", "-o", "json"))["items"]
        self._had = {node["metadata"]["name"]: node["status"]["capacity"].get("nvidia.com/gpu") for node in nodes}
        self._set(dict.fromkeys(self._had, "0"))

    def __exit__(self, *_: object) -> None:
        self._set(self._had)

    def _set(self, amounts: dict[str, Any]) -> None:
        for name, amount in amounts.items():
            if amount is not None:
                self._patch(name, {"status": {"capacity": {"nvidia.com/gpu": amount}}})

    def _patch(self, name: str, body: Object) -> None:
        from kubernetes import client, config

        settings = client.Configuration()
        config.load_kube_config(self._cluster.admin, client_configuration=settings)
        client.CoreV1Api(client.ApiClient(settings)).patch_node_status(name, body)


@pytest.mark.parametrize("phase", ["at once", "in the preparation", "without workers", "in the training"])
def test_job_can_be_cancelled_in_each_phase(cluster: RealCluster, tmp_path: Path, phase: str) -> None:
    job = cluster.job_file(tmp_path / "job", train__epochs=400)
    if phase == "without workers":
        with WithoutGpus(cluster):
            job_id = cluster.submit(job)
            cluster.wait(job_id, lambda now: "nvidia.com/gpu" in now["reason"] or ended(now))
            cancel(cluster, job_id)
        return
    job_id = cluster.submit(job)
    if phase == "in the preparation":
        cluster.wait(job_id, lambda now: now["state"] == "running" and now["stage"] == "prepare")
    elif phase == "in the training":
        cluster.wait(job_id, trains)
    cancel(cluster, job_id)
    if phase == "in the training":  # the training resumes from its saved state, in the same MLflow run
        again = cluster.farandole("retry", job_id, "--json")
        assert again.returncode == 0, again.stderr
        status = cluster.wait(job_id, trains)
        assert status["mlflow_run_id"] == json.loads(again.stdout)["mlflow_run_id"]
        log = cluster.farandole("logs", job_id).stdout
        saved = re.findall(r"step (\d+) is saved", log)
        assert saved, log
        assert re.search(rf"resuming .*, step {saved[0]}\b", log), log
        cancel(cluster, job_id)


def test_followed_log_survives_a_restart_of_the_api_server(cluster: RealCluster, tmp_path: Path) -> None:
    restart = os.environ.get("FARANDOLE_TEST_API_RESTART")
    if restart is None:
        pytest.skip("FARANDOLE_TEST_API_RESTART does not name a command that restarts the API server")
    job_id = cluster.submit(cluster.job_file(tmp_path / "job", train__epochs=60))
    follower = cluster.start("logs", "-f", job_id)
    cluster.wait(job_id, trains)
    subprocess.run(restart, shell=True, check=True, timeout=120)
    status = cluster.wait(job_id, ended)
    assert status["state"] == "succeeded", cluster.story(job_id, status)
    output, _ = follower.communicate(timeout=120)
    assert follower.returncode == 0, output
    lines = output.splitlines()
    assert any("models:/tiny/" in line for line in lines), output
    whole = cluster.farandole("logs", job_id).stdout.splitlines()
    assert [line for line in lines if line in whole] == lines
    assert len(lines) == len(whole), (len(lines), len(whole))


def test_missing_rights_are_reported(cluster: RealCluster, tmp_path: Path) -> None:
    job = cluster.job_file(tmp_path / "job")
    done = cluster.farandole("submit", str(job), "--backend", "kubernetes", user=cluster.stranger)
    assert done.returncode == 2
    assert "lacks the right to get configmaps, list configmaps, create configmaps" in done.stderr
    assert "farandole-submitter" in done.stderr
    listed = cluster.farandole(
        "jobs", "--backend", "kubernetes", "--namespace", cluster.namespace, user=cluster.stranger
    )
    assert listed.returncode == 3
    assert "the right to list configmaps is missing" in listed.stderr


def test_missing_operator_is_reported(cluster: RealCluster, tmp_path: Path) -> None:
    part = {**cluster.part(), "style": "mpijob", "queue": "farandole"}
    job = cluster.job_file(tmp_path / "job", backend__kubernetes=part)
    done = cluster.farandole("submit", str(job), "--backend", "kubernetes")
    assert done.returncode == 2
    known = cluster.kubectl("get", "crd", "-o", "name")
    if "mpijobs" not in known:
        assert "the cluster does not serve MPIJobs: the MPI Operator is not installed" in done.stderr


def test_secret_is_only_in_the_pods(cluster: RealCluster, tmp_path: Path) -> None:
    """Check that the value of a Secret is in the pods and nowhere else."""
    secret = "pearl-among-oysters"
    cluster.kubectl("create", "secret", "generic", "pearls", f"--from-literal=one={secret}")
    part = {**cluster.part(), "env_secrets": {"PEARL": {"secret": "pearls", "key": "one"}}}
    job_id = cluster.submit(cluster.job_file(tmp_path / "job", train__epochs=1, backend__kubernetes=part))
    status = cluster.wait(job_id, ended)
    assert status["state"] == "succeeded", cluster.story(job_id, status)
    shown = cluster.farandole("logs", job_id).stdout + cluster.farandole("logs", job_id, "--rank", "0").stdout
    shown += json.dumps(cluster.pods(job_id)) + json.dumps(cluster.objects("configmaps,jobs,statefulsets"))
    shown += json.dumps(status)
    assert "PEARL" in shown
    assert secret not in shown
    found = subprocess.run(
        ["grep", "-rl", secret, str(tmp_path), str(cluster.shared)], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


@pytest.fixture
def operators(cluster: RealCluster) -> Iterator[None]:
    """Install the CRDs of MPIJobs and of Kueue's queues, without the operators, and create one queue."""
    if CRDS is None:
        pytest.skip("FARANDOLE_CRD_DIR does not name a folder with the operators' CRDs")
    files = [f"{CRDS}/kubeflow.org_mpijobs.yaml", f"{CRDS}/kueue.x-k8s.io_localqueues.yaml"]
    for file in files:
        cluster.kubectl("create", "--validate=false", "-f", file)
    names = ["crd/mpijobs.kubeflow.org", "crd/localqueues.kueue.x-k8s.io"]
    try:
        for _ in range(200):  # `kubectl wait` fails where there is no condition yet
            known = json.loads(cluster.kubectl("get", *names, "-o", "json"))["items"]
            conditions = [each for crd in known for each in crd.get("status", {}).get("conditions") or []]
            if sum(each["type"] == "Established" and each["status"] == "True" for each in conditions) == len(names):
                break
            time.sleep(0.1)
        queue = {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "LocalQueue",
            "metadata": {"name": "gpus", "namespace": cluster.namespace},
            "spec": {"clusterQueue": "farandole"},
        }
        cluster.apply(queue)
        yield
    finally:
        cluster.kubectl("delete", "--wait=false", *names)


@pytest.mark.usefixtures("operators")
def test_mpijob_enters_its_queue_when_the_dataset_is_ready(cluster: RealCluster, tmp_path: Path) -> None:
    """Submit an MPIJob: without an operator it stays in the queue, where it can be cancelled."""
    part = {**cluster.part(), "style": "mpijob", "queue": "gpus", "workload_priority": "farandole-high"}
    job = cluster.job_file(tmp_path / "job", backend__kubernetes=part)
    wrong = cluster.farandole(
        "submit", str(job), "--backend", "kubernetes", "--set", "backend.kubernetes.queue=gpu"
    )  # fmt: skip
    assert wrong.returncode == 2
    assert f"gpu: there is no such LocalQueue in the namespace {cluster.namespace}; its queues: gpus" in wrong.stderr
    job_id = cluster.submit(job)
    (made,) = cluster.objects("mpijobs", f"farandole.dev/job={job_id}")
    assert made["spec"]["runPolicy"]["suspend"] is True
    assert "kueue.x-k8s.io/queue-name" not in made["metadata"]["labels"]
    status = cluster.wait(job_id, lambda now: now["stage"] == "train" or ended(now))
    assert (status["state"], status["reason"]) == ("queued", "waits to enter the queue gpus")
    (released,) = cluster.objects("mpijobs", f"farandole.dev/job={job_id}")
    assert released["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    done = cluster.farandole("cancel", job_id, "--json")
    assert json.loads(done.stdout)["state"] == "cancelled", done.stderr
    assert cluster.left(job_id) == []
