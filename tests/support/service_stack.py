"""The services of the manifests as processes of this machine: their containers, addresses and Secrets."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from farandole.process.parent_death import signal_on_parent_death
from tests.support.k8s_manifests import Object, find, pod_template
from tests.support.machine_pod import MachinePod
from tests.support.ports import free_ports
from tests.support.postgresql import PostgreSQL

START_S = 300
"""Seconds that a service may take to answer."""


@dataclass(frozen=True)
class Stack:
    """The running services.

    Args:
        objects: All objects of the overlay, and the Secrets.
        database: PostgreSQL.
        storage: Address of S3.
        mlflow: Address of MLflow.
        server: Container of MLflow.
        directory: Directory of volumes and logs.
    """

    objects: list[Object]
    database: PostgreSQL
    storage: str
    mlflow: str
    server: MachinePod
    directory: Path

    def secret(self, name: str) -> dict[str, str]:
        """Return the values of a Secret."""
        values: dict[str, str] = find(self.objects, "Secret", name)["stringData"]
        return values

    def request(self, user: str, password: str, route: str, host: str | None = None) -> int:
        """Send a request to MLflow as a user; returns the status of the answer."""
        request = urllib.request.Request(self.mlflow + route)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
        if host is not None:
            request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def bucket(self, name: str) -> list[str]:
        """List the objects of a bucket."""
        keys = self.secret("seaweedfs")
        files = fs.S3FileSystem(
            access_key=keys["admin-access-key"],
            secret_key=keys["admin-secret-key"],
            endpoint_override=self.storage,
            region="us-east-1",
        )
        return [each.path for each in files.get_file_info(fs.FileSelector(name, recursive=True))]


def free_port() -> int:
    """Return a port that nothing listens on."""
    return free_ports()[0]


@contextmanager
def running_container(pod: MachinePod, health: str, log: Path) -> Iterator[None]:
    """Run the container in its own process group, and wait until it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            pod.command, env=pod.environment, stdout=output, stderr=output, cwd=log.parent, start_new_session=True,
            preexec_fn=lambda: signal_on_parent_death(signal.SIGTERM),
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(health, timeout=5):
                    break
            except OSError:
                last_lines = log.read_text(errors="replace")[-3000:]
                assert process.poll() is None, last_lines
                assert time.monotonic() < deadline, last_lines
                time.sleep(0.2)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def template_of(objects: list[Object], kind: str, name: str) -> Object:
    """Return the pod template of an object of the stack."""
    template = pod_template(find(objects, kind, name, "farandole-system"))
    assert template is not None
    return template


def health_address(template: Object, port: int) -> str:
    """Return the address of the startup probe of a container."""
    return f"http://127.0.0.1:{port}{template['spec']['containers'][0]['startupProbe']['httpGet']['path']}"
