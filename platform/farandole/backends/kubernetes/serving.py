"""Services in a cluster: created from their manifests, followed until they answer, and removed."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from farandole.backends.kubernetes.manifests.serving import (
    ACCESS_SECRET,
    COMPONENT,
    PORT,
    ServiceSpec,
    render_service,
)
from farandole.backends.kubernetes.serving_status import ServiceStatus, service_status
from farandole.errors import SpecError, UnavailableError, closest_match
from farandole.events import EventHandler, Message, Progress, ignore_event

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

Object = dict[str, Any]

_OPTIONAL = {
    "PodDisruptionBudget": "nothing keeps a node's drain from ending all pods at once",
    "HorizontalPodAutoscaler": "the number of pods stays at its minimum",
}
"""Kinds that old clusters do not serve, and what is missing then."""
_POLL_S = 1.0
_PATIENCE_S = 20.0
"""How long a failing pod is given: a missing Secret may come a moment later, and a pull may be repeated."""


@dataclass(frozen=True)
class DeployedService:
    """A service that answers.

    Args:
        name: The name of its objects.
        namespace: Their namespace.
        model: The MODEL.
        url: Its address inside the cluster.
        replicas: Pods that answer.
        access_secret: The Secret with its keys.
    """

    name: str
    namespace: str
    model: str
    url: str
    replicas: int
    access_secret: str = ACCESS_SECRET

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a document."""
        return asdict(self)


def deploy(
    cluster: Cluster, spec: ServiceSpec, *, timeout_s: float, on_event: EventHandler = ignore_event
) -> DeployedService:
    """Create a service, or change it without a failed request, and wait until all its pods answer.

    Args:
        cluster: The cluster.
        spec: The service.
        timeout_s: How long to wait.
        on_event: Receives progress, and warnings.

    Raises:
        UnavailableError: It does not answer in time, or cannot; its objects stay, for a look at them.
        FarandoleError: The cluster rejects an object.
    """
    if cluster.create_missing(_access_secret()):
        on_event(Message(f"the Secret {ACCESS_SECRET} is new: it has no keys yet"))
    for each in _adapted(cluster, spec, on_event):
        cluster.apply(each)
    status = _wait(cluster, spec, timeout_s, on_event)
    url = f"http://{spec.name}.{cluster.namespace}:{PORT}"
    return DeployedService(spec.name, cluster.namespace, spec.model, url, status.ready)


def undeploy(cluster: Cluster, name: str) -> None:
    """Delete the objects of a service; its pods answer what they have accepted. The Secret with the keys stays.

    Raises:
        SpecError: There is no such service.
    """
    if cluster.get("Deployment", name) is None:
        known = [each["metadata"]["name"] for each in cluster.find("Deployment", f"{COMPONENT}=serving")]
        names = [each.removeprefix("serving-") for each in known]
        close = closest_match(name.removeprefix("serving-"), names)
        hint = f"did you mean {close}?" if close else f"the services are: {', '.join(names) or 'none'}"
        raise SpecError(
            f"Kubernetes, namespace {cluster.namespace}: there is no service {name.removeprefix('serving-')}; {hint}"
        )
    for each in reversed(render_service(ServiceSpec("", name))):
        cluster.delete(each["kind"], name)


def _access_secret() -> Object:
    """Return the Secret of `k8s/secrets.sh`: a random secret, and no keys."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": ACCESS_SECRET, "labels": {"app.kubernetes.io/part-of": "farandole"}},
        "stringData": {
            "secret": secrets.token_hex(32),
            "keys.json": json.dumps({"format_version": 1, "keys": []}),
        },
    }


def _adapted(cluster: Cluster, spec: ServiceSpec, on_event: EventHandler) -> list[Object]:
    """Return the objects of a service without those whose kind the cluster does not serve."""
    objects = []
    for each in render_service(spec):
        kind = each["kind"]
        if kind in _OPTIONAL and not cluster.serves(kind):
            on_event(Message(f"the cluster does not serve {each['apiVersion']} {kind}: {_OPTIONAL[kind]}", "warning"))
            continue
        objects.append(each)
    if "HorizontalPodAutoscaler" not in [each["kind"] for each in objects]:
        objects = [
            {**each, "spec": {**each["spec"], "replicas": spec.replicas.least}}
            if each["kind"] == "Deployment"
            else each
            for each in objects
        ]
    return objects


def _wait(cluster: Cluster, spec: ServiceSpec, timeout_s: float, on_event: EventHandler) -> ServiceStatus:
    deadline_s, failing_since_s = time.monotonic() + timeout_s, None
    while True:
        deployment = cluster.get("Deployment", spec.name)
        if deployment is None:
            raise UnavailableError(f"Kubernetes: the Deployment {spec.name} was deleted while it was awaited")
        selector = f"app.kubernetes.io/name={spec.name}"
        status = service_status(deployment, cluster.find("ReplicaSet", selector), cluster.find("Pod", selector))
        if status.is_ready:
            return status
        on_event(Progress("deploy", status.ready, status.wanted, "pods", status.reason or "waits for pods"))
        now_s = time.monotonic()
        failing_since_s = (failing_since_s or now_s) if status.is_failing else None
        if failing_since_s is not None and now_s - failing_since_s >= _PATIENCE_S:
            raise UnavailableError(f"{_where(cluster, spec)} cannot start: {status.reason}; {_remedy(cluster, spec)}")
        if now_s >= deadline_s:
            reason = status.reason or f"{status.ready} of {status.wanted} pods answer"
            raise UnavailableError(
                f"{_where(cluster, spec)} is not ready after {timeout_s:g} s: {reason}; {_remedy(cluster, spec)}"
            )
        time.sleep(_POLL_S)


def _where(cluster: Cluster, spec: ServiceSpec) -> str:
    return f"Kubernetes, namespace {cluster.namespace}: {spec.name}"


def _remedy(cluster: Cluster, spec: ServiceSpec) -> str:
    name = spec.name.removeprefix("serving-")
    return (
        f"`kubectl -n {cluster.namespace} describe pods -l app.kubernetes.io/name={spec.name}` shows more, and"
        f" `farandole undeploy {name}` removes it"
    )
