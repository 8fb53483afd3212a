"""The client of the Kubernetes API, against an HTTP server that records requests and gives prepared answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.backends.kubernetes import cluster as cluster_module
from farandole.backends.kubernetes.cluster import ApiError, ApiUnreachableError, Cluster, connect
from farandole.errors import SpecError, UnavailableError


@dataclass
class Api:
    """Recorded requests, and the answers to give.

    Args:
        url: The server's address.
        answers: Status and content, in order; the last one is repeated. A status of 0 cuts the connection.
        requests: Method, path, content type, credentials and body of the requests.
    """

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, str | None, str | None, Any]] = field(default_factory=list)


@pytest.fixture
def api() -> Iterator[Api]:
    state = Api()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.requests.append(
                (
                    self.command,
                    self.path,
                    self.headers.get("Content-Type"),
                    self.headers.get("Authorization"),
                    json.loads(body) if body else None,
                )
            )
            code, content = state.answers[0]
            if len(state.answers) > 1:
                state.answers.pop(0)
            if code == 0:
                self.close_connection = True
                return
            raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
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
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cluster(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    config = {
        "clusters": [{"name": "lab", "cluster": {"server": api.url}}],
        "users": [{"name": "ada", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "test", "context": {"cluster": "lab", "user": "ada", "namespace": "people"}}],
        "current-context": "test",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("NO_PROXY", "*")
    return connect(None, None)


def _status(reason: str, message: str) -> dict[str, str]:
    return {"kind": "Status", "reason": reason, "message": message}


def test_objects_are_read_with_the_credentials_of_the_kubeconfig(api: Api, cluster: Cluster) -> None:
    api.answers = [(200, {"metadata": {"name": "a"}})]
    assert cluster.get("ConfigMap", "a") == {"metadata": {"name": "a"}}
    path = "/api/v1/namespaces/people/configmaps/a"
    assert api.requests == [("GET", path, "application/json", "Bearer secret-token", None)]


def test_missing_object_and_missing_kind_are_none(api: Api, cluster: Cluster) -> None:
    api.answers = [(404, _status("NotFound", "not found"))]
    assert cluster.get("MPIJob", "a") is None
    assert cluster.find("MPIJob") == []
    assert cluster.patch("StatefulSet", "a", {}) is None
    cluster.delete("Job", "a")


def test_objects_are_listed_by_label_and_from_the_cache_on_request(api: Api, cluster: Cluster) -> None:
    api.answers = [(200, {"items": [{"metadata": {"name": "a"}}]})]
    assert cluster.find("Pod", "x=1", cached=True) == [{"kind": "Pod", "metadata": {"name": "a"}}]
    assert api.requests[0][1] == "/api/v1/namespaces/people/pods?labelSelector=x%3D1&resourceVersion=0"


def test_apply_sends_the_object_as_a_server_side_apply(api: Api, cluster: Cluster) -> None:
    wanted = {"kind": "Job", "metadata": {"name": "a"}, "spec": {"text": "ä"}}
    api.answers = [(200, wanted)]
    assert cluster.apply(wanted, dry_run=True) == wanted
    method, path, content, _, body = api.requests[0]
    assert (method, content, body) == ("PATCH", "application/apply-patch+yaml", wanted)
    assert path == "/apis/batch/v1/namespaces/people/jobs/a?fieldManager=farandole&force=true&dryRun=All"


def test_changes_deletions_and_reviews_send_json(api: Api, cluster: Cluster) -> None:
    api.answers = [(200, {})]
    cluster.patch("StatefulSet", "a", {"spec": {"replicas": 2}}, part="/scale")
    cluster.delete("Job", "a")
    cluster.create("SelfSubjectAccessReview", {"spec": {}})
    sent = [(method, path.partition("?")[0], content, body) for method, path, content, _, body in api.requests]
    assert sent == [
        (
            "PATCH",
            "/apis/apps/v1/namespaces/people/statefulsets/a/scale",
            "application/merge-patch+json",
            {"spec": {"replicas": 2}},
        ),
        (
            "DELETE",
            "/apis/batch/v1/namespaces/people/jobs/a",
            "application/json",
            {"propagationPolicy": "Background"},
        ),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "application/json", {"spec": {}}),
    ]


def test_rejected_requests_become_errors_with_a_remedy(api: Api, cluster: Cluster) -> None:
    api.answers = [(403, _status("Forbidden", "ada cannot list pods"))]
    with pytest.raises(UnavailableError, match=r"people: the right to list pods is missing \(ada cannot list pods\);"):
        cluster.find("Pod")
    api.answers = [(401, _status("Unauthorized", "Unauthorized"))]
    with pytest.raises(UnavailableError, match="the API server rejected the credentials; renew them"):
        cluster.get("Pod", "a")
    api.answers = [(422, _status("Invalid", "spec.parallelism: Invalid value: -1"))]
    with pytest.raises(SpecError, match=r"Job a: spec\.parallelism: Invalid value: -1; fix the named field in backend"):
        cluster.apply({"kind": "Job", "metadata": {"name": "a"}})


def test_busy_server_and_broken_connection_are_asked_again(api: Api, cluster: Cluster) -> None:
    api.answers = [(503, "starting"), (0, None), (200, {"major": "1", "minor": "33+"})]
    assert cluster.version() == (1, 33)
    assert len(api.requests) == 3


def test_server_that_does_not_answer_is_reported(api: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_FIRST_ANSWER_S", 0.1)
    api.answers = [(503, "starting")]
    with pytest.raises(UnavailableError, match=r"http://127.* the Kubernetes API does not answer \(starting\); check"):
        cluster.version()


def test_log_is_streamed_in_lines_with_their_times(api: Api, cluster: Cluster) -> None:
    api.answers = [(200, "2026-11-25T10:00:01Z first line\n2026-11-25T10:00:02Z last")]
    since = "2026-11-25T10:00:00Z"
    lines = list(cluster.log("a", follow=True, since=since))
    assert lines == [("2026-11-25T10:00:01Z", "first line"), ("2026-11-25T10:00:02Z", "last")]
    path = "/api/v1/namespaces/people/pods/a/log?timestamps=true&follow=true&sinceTime=2026-11-25T10%3A00%3A00Z"
    assert api.requests[0][1] == path


def test_log_errors_are_not_repeated(api: Api, cluster: Cluster) -> None:
    api.answers = [(400, _status("BadRequest", "the container has not started"))]
    with pytest.raises(ApiError, match="the container has not started"):
        list(cluster.log("a", follow=False))
    api.answers = [(0, None)]
    with pytest.raises(ApiUnreachableError):
        list(cluster.log("a", follow=False))
    assert len(api.requests) == 2


def test_unknown_context_is_reported_with_those_of_the_kubeconfig(cluster: Cluster) -> None:
    assert (cluster.context, cluster.namespace) == ("test", "people")
    with pytest.raises(SpecError, match=r"backend\.kubernetes\.context: other: .* no such context; it has test"):
        connect("other", None)
