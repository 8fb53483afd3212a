"""Fixtures of a real cluster, which `FARANDOLE_TEST_KUBECONFIG` names; without one, its tests are skipped.

The pods run this machine's own Python by `hostPath`, so the cluster's node must be this machine. Their image is nearly
empty; `FARANDOLE_TEST_IMAGE` names it, and `setup/test_image.sh` builds it. If the node has the images of `k8s/images`,
`FARANDOLE_TEST_IMAGES=docker.io/farandole/{}:0.1.0` makes pods run those instead.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.mlflow_server import MlflowServer
from tests.support.paths import ROOT

REPOSITORY = ROOT
KUBECONFIG = os.environ.get("FARANDOLE_TEST_KUBECONFIG")
IMAGE = os.environ.get("FARANDOLE_TEST_IMAGE", "docker.io/lab/machine:1")
IMAGES = os.environ.get("FARANDOLE_TEST_IMAGES")
_MACHINE = ("/usr", "/etc/alternatives", "/etc/ssl", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")

Object = dict[str, Any]

needs_cluster = pytest.mark.skipif(
    KUBECONFIG is None, reason="FARANDOLE_TEST_KUBECONFIG does not name a cluster whose node is this machine"
)


@dataclass
class RealCluster:
    """Namespace of a cluster, with the accounts of `k8s/base/rbac`.

    Args:
        admin: The kubeconfig of an administrator.
        namespace: The namespace.
        submitter: The kubeconfig of an account with only the submitter's Role.
        stranger: The kubeconfig of an account without a Role.
        shared: A directory of this machine that all pods see.
        mlflow: A server that pods and this machine reach.
    """

    admin: str
    namespace: str
    submitter: Path
    stranger: Path
    shared: Path
    mlflow: MlflowServer
    home: Path
    _ids: list[str] = field(default_factory=list)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl and return its output."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", self.admin, "-n", self.namespace, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Create objects."""
        _kubectl(self.admin, "apply", "--validate=false", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def objects(self, kind: str, selector: str = "") -> list[Object]:
        """Return the objects with some labels."""
        found: list[Object] = json.loads(self.kubectl("get", kind, "-l", selector, "-o", "json"))["items"]
        return found

    def pods(self, job_id: str, component: str = "") -> list[Object]:
        """Return the pods of a job, or of one of its components."""
        part = f",farandole.dev/component={component}" if component else ""
        return self.objects("pods", f"farandole.dev/job={job_id}{part}")

    def farandole(self, *arguments: str, user: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command as the submitter, or as another user."""
        return subprocess.run(
            [sys.executable, "-m", "farandole", *arguments],
            env=self.environment(user),
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command as the submitter, with its output in a pipe."""
        process = subprocess.Popen(
            [sys.executable, "-m", "farandole", *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def environment(self, user: Path | None = None) -> dict[str, str]:
        """Return the variables of a submitter's shell."""
        return {
            **os.environ,
            "KUBECONFIG": str(user or self.submitter),
            "FARANDOLE_HOME": str(self.home),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "*",
        }

    def submit(self, job: Path, *settings: str) -> str:
        """Submit a job file; returns its id."""
        sets = [part for each in settings for part in ("--set", each)]
        done = self.farandole("submit", str(job), "--backend", "kubernetes", "--json", *sets)
        assert done.returncode == 0, done.stderr
        job_id = str(json.loads(done.stdout)["id"])
        self._ids.append(job_id)
        return job_id

    def status(self, job_id: str) -> Object:
        """Return the result document of `status`."""
        done = self.farandole("status", job_id, "--json")
        assert done.returncode == 0, done.stderr
        found: Object = json.loads(done.stdout)
        return found

    def wait(self, job_id: str, reached: Callable[[Object], bool], seconds: float = 240) -> Object:
        """Wait until a job reaches a status."""
        from farandole.backends.kubernetes.backend import KubernetesBackend

        kept = os.environ.get("KUBECONFIG")
        os.environ["KUBECONFIG"] = str(self.submitter)
        try:
            backend, due_s = KubernetesBackend(), time.monotonic() + seconds
            while True:
                status = backend.status(job_id).to_dict()
                if reached(status):
                    return status
                assert time.monotonic() < due_s, self.story(job_id, status)
                assert status["state"] not in ("failed",), self.story(job_id, status)
                time.sleep(1)  # each request costs the node, which is this machine, a tenth of a second
        finally:
            if kept is None:
                del os.environ["KUBECONFIG"]
            else:
                os.environ["KUBECONFIG"] = kept

    def story(self, job_id: str, status: Object) -> str:
        """Return everything that helps to find out why a test failed."""
        pods = self.kubectl("get", "pods,jobs,statefulsets", "-o", "wide", check=False)
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:]
        logs = self.farandole("logs", job_id).stdout[-6000:]
        return f"{json.dumps(status, indent=1)}\n{pods}\n{events}\n{logs}"

    def job_file(self, folder: Path, **changes: Any) -> Path:
        """Write the file of a tiny job: 600 rows, a small network."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = "".join(
            f"{number % 17},{number % 5},{'true' if number % 17 > 7 else 'false'}\n" for number in range(600)
        )
        (folder / "things.csv").write_text("width,height,label\n" + rows, encoding="utf-8")
        raw = {
            "name": "tiny",
            "data": {
                "sources": {"things": {"path": "things.csv", "columns": {"width": "double", "height": "double",
                                                                         "label": "boolean"}}},
                "features": {"width": {"kind": "numeric"}, "height": {"kind": "numeric"}},
                "label": {"column": "label", "kind": "binary"},
                "master": "local[1]",
                "memory": "512m",
            },
            "model": {"builder": "farandole.models.mlp:build", "options": {"hidden": [8]}},
            "train": {"epochs": 2, "global_batch_size": 32, "checkpoint": {"every_steps": 20}},
            "resources": {"workers": 2, "cpus": 1, "max_restarts": 3, "stop_timeout_s": 15},
            "tracking": {"uri": self.mlflow.uri, "system_metrics": False, "wait_s": 20},
            "backend": {"use": "kubernetes", "kubernetes": self.part()},
        }  # fmt: skip
        for path, value in changes.items():
            part: Any = raw
            *parents, last = path.split("__")
            for name in parents:
                part = part.setdefault(name, {})
            part[last] = value
        path_of_job = folder / "job.yaml"
        path_of_job.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        return path_of_job

    def part(self) -> Object:
        """Return the `backend.kubernetes` part of a job file for this cluster."""
        built = {} if IMAGES is None else {name: IMAGES.format(name) for name in ("prepare", "train")}
        return {
            "namespace": self.namespace,
            "storage": str(self.shared),
            **({} if built else {"python": sys.executable}),
            "images": {"prepare": IMAGE, "train": IMAGE, **built, "pull_policy": "IfNotPresent"},
            "volumes": [
                *([] if built else of_this_machine()),
                {"mount_path": str(self.shared), "host_path": str(self.shared)},
            ],
            "launcher": {"cpus": "100m", "memory": "1Gi"},
            "driver": {"cpus": "800m", "memory": "2Gi"},
            "worker": {"cpus": "900m", "memory": "2Gi"},
            "executors": {"count": 2, "cpus": "300m", "memory": "600m", "python_memory": "600m"},
            "devices": {"nvidia.com/gpu": 1},  # the node only claims to have GPUs, and workers use none
            "shm": "64Mi",
            "ttl_s": 600,
        }

    def left(self, job_id: str) -> list[str]:
        """Return the names of a job's pods that have not ended."""
        return [
            pod["metadata"]["name"]
            for pod in self.pods(job_id)
            if pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]

    def end_started(self) -> None:
        """Kill the commands of `start`: a failed test has not waited for them."""
        for process in self._started:
            process.kill()
            process.communicate()
        self._started.clear()


def of_this_machine() -> list[Object]:
    """Return volumes, in the notation of job files, with which a pod can run this machine's programs."""
    java = [str(path) for path in Path("/etc").glob("java-*")]
    paths = [path for path in (*_MACHINE, *java, sys.base_prefix, str(REPOSITORY)) if Path(path).exists()]
    return [
        {"mount_path": path, "host_path": path, "read_only": True}
        for path in dict.fromkeys(paths)
        if not any(path != other and Path(path).is_relative_to(other) for other in paths)
    ]


@pytest.fixture(scope="session")
def real_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Create a namespace for the tests of this session; it is deleted with all its objects."""
    assert KUBECONFIG is not None
    admin, namespace = KUBECONFIG, f"farandole-test-{uuid.uuid4().hex[:6]}"
    root = tmp_path_factory.mktemp("cluster")
    shared = Path("/tmp") / namespace
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    mlflow = MlflowServer(root / "mlflow", host=_own_address(admin))
    _kubectl(admin, "create", "namespace", namespace)
    try:
        _apply_rbac(admin, namespace, root)
        mlflow.start()
        yield RealCluster(
            admin,
            namespace,
            _account(admin, namespace, "submitter", root),
            _account(admin, namespace, "stranger", root),
            shared,
            mlflow,
            root / "home",
        )
    finally:
        mlflow.kill()
        _kubectl(admin, "delete", "namespace", namespace, "--wait=false")
        _wait_gone(admin, namespace)
        shutil.rmtree(shared, ignore_errors=True)


def _kubectl(kubeconfig: str, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["kubectl", "--kubeconfig", kubeconfig, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _own_address(kubeconfig: str) -> str:
    """Return this machine's address, as the cluster sees it."""
    raw = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))
    server = urlsplit(raw["clusters"][0]["cluster"]["server"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((server.hostname, server.port or 443))
        return str(probe.getsockname()[0])


def _apply_rbac(admin: str, namespace: str, root: Path) -> None:
    """Create the accounts and Roles of `k8s/base/rbac`, bound to the tests' own submitter."""
    folder = root / "rbac"
    shutil.copytree(REPOSITORY / "k8s" / "base" / "rbac", folder)
    rendered = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    objects = [each for each in yaml.safe_load_all(rendered) if each]
    for each in objects:
        each["metadata"]["namespace"] = namespace
        for subject in each.get("subjects", ()):
            if subject["kind"] == "ServiceAccount":
                subject["namespace"] = namespace
            else:
                subject |= {"kind": "ServiceAccount", "name": "submitter", "namespace": namespace, "apiGroup": ""}
    accounts: list[Object] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        for name in ("submitter", "stranger")
    ]
    tokens: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/service-account-token",
            "metadata": {
                "name": f"{name}-token",
                "namespace": namespace,
                "annotations": {"kubernetes.io/service-account.name": name},
            },
        }
        for name in ("submitter", "stranger")
    ]
    _kubectl(admin, "apply", "-f", "-", stdin=yaml.safe_dump_all([*accounts, *objects, *tokens]))


def _account(admin: str, namespace: str, name: str, root: Path) -> Path:
    """Write the kubeconfig of a ServiceAccount."""
    raw = yaml.safe_load(Path(admin).read_text(encoding="utf-8"))
    for _ in range(100):
        secret = json.loads(_kubectl(admin, "-n", namespace, "get", "secret", f"{name}-token", "-o", "json"))
        if "token" in (secret.get("data") or {}):
            break
        time.sleep(0.1)
    token = base64.b64decode(secret["data"]["token"]).decode()
    raw["users"] = [{"name": name, "user": {"token": token}}]
    raw["contexts"] = [
        {"name": "test", "context": {"cluster": raw["clusters"][0]["name"], "user": name, "namespace": namespace}}
    ]
    raw["current-context"] = "test"
    path = root / f"{name}.conf"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def _wait_gone(admin: str, namespace: str) -> None:
    for _ in range(600):
        if not json.loads(_kubectl(admin, "-n", namespace, "get", "pods", "-o", "json"))["items"]:
            return
        time.sleep(0.2)
