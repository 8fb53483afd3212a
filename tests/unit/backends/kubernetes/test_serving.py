"""Creation and removal of a service, against an HTTP server that stores objects as the Kubernetes API does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from farandole.backends.kubernetes import serving
from farandole.backends.kubernetes.cluster import Cluster, connect
from farandole.backends.kubernetes.manifests.serving import Replicas, ServiceSpec
from farandole.errors import SpecError, UnavailableError
from farandole.events import Message, Progress

SPEC = ServiceSpec("models:/flights@champion", "serving-flights", Replicas(2, 4))
_REVISION = {"deployment.kubernetes.io/revision": "1"}
_READY = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@dataclass
class Store:
    """A namespace of an API server.

    Args:
        objects: Path to object.
        unserved: Kinds, in the plural, that the server does not know.
        status: The status of each Deployment.
        pods: The pods.
    """

    objects: dict[str, Any] = field(default_factory=dict)
    unserved: set[str] = field(default_factory=set)
    status: dict[str, Any] = field(default_factory=lambda: dict(_READY))
    pods: list[Any] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return the status and the content for a request."""
        parts = path.split("/")
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return 409, {"reason": "AlreadyExists", "message": "exists"}
            self.objects[path] = body
            return 201, body
        if method == "PATCH":
            body["metadata"] |= {"generation": 1, "annotations": _REVISION}
            self.objects[path] = body
            return 200, body
        if method == "DELETE":
            return (200, {}) if self.objects.pop(path, None) else (404, {"reason": "NotFound", "message": "none"})
        if "namespaces" not in parts:
            plurals = {"poddisruptionbudgets", "horizontalpodautoscalers"} - self.unserved
            return 200, {"resources": [{"name": each} for each in plurals]}
        if parts[-1] == "pods":
            return 200, {"items": self.pods}
        if parts[-1] == "replicasets":
            meta = {"annotations": _REVISION, "labels": {"pod-template-hash": "hash-1"}}
            return 200, {"items": [{"metadata": meta}]}
        if parts[-1] == "deployments":
            return 200, {"items": [each for at, each in self.objects.items() if "/deployments/" in at]}
        found = self.objects.get(path)
        if found is None:
            return 404, {"reason": "NotFound", "message": "none"}
        if "/deployments/" in path:  # what the autoscaler and the controller would set
            found = {**found, "spec": {"replicas": 2, **found["spec"]}, "status": self.status}
        return 200, found

    def names(self) -> set[str]:
        """Return plural and name of each object."""
        return {"/".join(path.split("/")[-2:]) for path in self.objects}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def cluster(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, content = store.answer(self.command, urlsplit(self.path).path, json.loads(body) if body else None)
            raw = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    config = {
        "clusters": [{"name": "lab", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "ada", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "test", "context": {"cluster": "lab", "user": "ada", "namespace": "people"}}],
        "current-context": "test",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(serving, "_POLL_S", 0.01)
    monkeypatch.setattr(serving, "_PATIENCE_S", 0.05)
    yield connect(None, None)
    server.shutdown()
    thread.join()
    server.server_close()


_OBJECTS = {
    "serviceaccounts/serving-flights",
    "services/serving-flights",
    "poddisruptionbudgets/serving-flights",
    "networkpolicies/serving-flights",
    "deployments/serving-flights",
    "horizontalpodautoscalers/serving-flights",
}


def test_service_is_created_with_a_secret_without_keys(store: Store, cluster: Cluster) -> None:
    found = serving.deploy(cluster, SPEC, timeout_s=60)
    assert store.names() == {*_OBJECTS, "secrets/serving-access"}
    assert found.to_dict() == {
        "name": "serving-flights",
        "namespace": "people",
        "model": "models:/flights@champion",
        "url": "http://serving-flights.people:8080",
        "replicas": 2,
        "access_secret": "serving-access",
    }
    (secret,) = [each["stringData"] for path, each in store.objects.items() if "/secrets/" in path]
    assert len(bytes.fromhex(secret["secret"])) == 32
    assert json.loads(secret["keys.json"]) == {"format_version": 1, "keys": []}


def test_second_deployment_keeps_the_keys_and_the_number_of_pods(store: Store, cluster: Cluster) -> None:
    serving.deploy(cluster, SPEC, timeout_s=60)
    before = {path: each for path, each in store.objects.items() if "/secrets/" in path}
    serving.deploy(cluster, SPEC, timeout_s=60)
    assert {path: each for path, each in store.objects.items() if "/secrets/" in path} == before
    (deployment,) = [each for path, each in store.objects.items() if "/deployments/" in path]
    assert "replicas" not in deployment["spec"]


def test_cluster_without_autoscaling_gets_the_least_number_of_pods(store: Store, cluster: Cluster) -> None:
    store.unserved = {"poddisruptionbudgets", "horizontalpodautoscalers"}
    events: list[Any] = []
    serving.deploy(cluster, SPEC, timeout_s=60, on_event=events.append)
    (deployment,) = [each for path, each in store.objects.items() if "/deployments/" in path]
    assert deployment["spec"]["replicas"] == 2
    warnings = [each.text for each in events if isinstance(each, Message) and each.level == "warning"]
    assert any("HorizontalPodAutoscaler: the number of pods stays at its minimum" in each for each in warnings)
    assert not any("horizontalpodautoscalers" in each for each in store.names())


def _pod(reason: str) -> dict[str, Any]:
    container = {"name": "serving", "image": "example/serve:1", "ready": False, "restartCount": 0}
    status = {"containerStatuses": [{**container, "state": {"waiting": {"reason": reason}}}]}
    return {"metadata": {"name": "serving-flights-1", "labels": {"pod-template-hash": "hash-1"}}, "status": status}


def test_pod_that_cannot_start_ends_the_wait_with_its_reason(store: Store, cluster: Cluster) -> None:
    store.status = {"observedGeneration": 1, "replicas": 2}
    store.pods = [_pod("ImagePullBackOff")]
    with pytest.raises(
        UnavailableError, match=r"serving-flights cannot start: .*example/serve:1 cannot be pulled"
    ) as bad:
        serving.deploy(cluster, SPEC, timeout_s=600)
    assert "farandole undeploy flights" in str(bad.value)


def test_wait_ends_with_the_last_reason(store: Store, cluster: Cluster) -> None:
    store.status = {"observedGeneration": 1, "replicas": 2}
    store.pods = [_pod("ContainerCreating")]
    events: list[Any] = []
    with pytest.raises(UnavailableError, match=r"not ready after 0\.2 s: serving-flights-1 .* is being created"):
        serving.deploy(cluster, SPEC, timeout_s=0.2, on_event=events.append)
    assert any(isinstance(each, Progress) and each.total == 2 for each in events)


def test_removal_keeps_the_keys(store: Store, cluster: Cluster) -> None:
    serving.deploy(cluster, SPEC, timeout_s=60)
    serving.undeploy(cluster, "serving-flights")
    assert store.names() == {"secrets/serving-access"}


def test_unknown_service_is_an_error_with_the_known_ones(cluster: Cluster) -> None:
    serving.deploy(cluster, SPEC, timeout_s=60)
    with pytest.raises(SpecError, match=r"there is no service flight; did you mean flights\?"):
        serving.undeploy(cluster, "serving-flight")
