"""The objects of a service that answers with a model: those of `k8s/base/serving`, for any model and name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from farandole.errors import SpecError

Object = dict[str, Any]

ACCESS_SECRET = "serving-access"
"""The Secret with the keys of all services of a namespace, and the secret with which they are hashed."""
COMPONENT = "app.kubernetes.io/component"
DEFAULT_IMAGE = "farandole/serve:0.1.0"
PORT = 8080
READY, LIVE = "/v2/health/ready", "/v2/health/live"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_ACCESS, _HOME = "/etc/farandole/access", "/var/lib/farandole"


@dataclass(frozen=True)
class Replicas:
    """The number of pods, as a range.

    Args:
        least: The smallest number.
        most: The largest number.
    """

    least: int = 2
    most: int = 8


@dataclass(frozen=True)
class ServiceSpec:
    """A service in a cluster.

    Args:
        model: The MODEL, as `farandole serve` takes it: `models:/NAME/VERSION`, `models:/NAME@ALIAS`.
        name: The name of its objects.
        replicas: The number of its pods.
        image: Their image.
    """

    model: str
    name: str = "serving"
    replicas: Replicas = Replicas()
    image: str = DEFAULT_IMAGE


def object_name(name: str) -> str:
    """Return the name of the objects of a service that the user calls `name`.

    Raises:
        SpecError: Kubernetes does not accept the name.
    """
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"--name: {name!r}: a name has at most 40 small letters, digits and hyphens, and begins with a letter"
        )
    return f"serving-{name}"


def parse_replicas(text: str) -> Replicas:
    """Parse `MIN:MAX`, or one number for both.

    Raises:
        SpecError: The text has another form, or the numbers do not fit.
    """
    match = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most:
        raise SpecError(f"--replicas: {text!r}: write MIN:MAX with 1 <= MIN <= MAX, as in 2:8, or one number")
    return Replicas(least, most)


def render_service(spec: ServiceSpec) -> list[Object]:
    """Return the objects of a service, in the order of their creation."""
    head = {"metadata": {"name": spec.name, "labels": _labels(spec)}}
    selector = {"matchLabels": _selector(spec)}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", **head, "automountServiceAccountToken": False},
        {
            "apiVersion": "v1",
            "kind": "Service",
            **head,
            "spec": {
                "selector": _selector(spec),
                "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            **head,
            "spec": {"maxUnavailable": 1, "selector": selector},
        },
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **head, "spec": _policy(spec)},
        {"apiVersion": "apps/v1", "kind": "Deployment", **head, "spec": _deployment(spec)},
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", **head, "spec": _autoscaler(spec)},
    ]


def _labels(spec: ServiceSpec) -> dict[str, str]:
    return {**_selector(spec), COMPONENT: "serving", "app.kubernetes.io/part-of": "farandole"}


def _selector(spec: ServiceSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name}


def _policy(spec: ServiceSpec) -> Object:
    """Admit the pods of the namespace, whose requests need a key, and Prometheus."""
    prometheus = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "farandole-system"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
    }
    ports = [{"port": PORT}]
    return {
        "podSelector": {"matchLabels": _selector(spec)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {}}], "ports": ports}, {"from": [prometheus], "ports": ports}],
    }


def _autoscaler(spec: ServiceSpec) -> Object:
    """Scale by processor time: a pod has one worker, which uses one core at most."""
    target = {"type": "AverageValue", "averageValue": "700m"}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name},
        "minReplicas": spec.replicas.least,
        "maxReplicas": spec.replicas.most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }


def _deployment(spec: ServiceSpec) -> Object:
    """Return the Deployment without `replicas`, which belong to the autoscaler."""
    return {
        "selector": {"matchLabels": _selector(spec)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": _labels(spec)}, "spec": _pod(spec)},
    }


def _pod(spec: ServiceSpec) -> Object:
    return {
        "serviceAccountName": spec.name,
        "automountServiceAccountToken": False,
        # The pause before the end, and then the longest request: `farandole serve --deadline`.
        "terminationGracePeriodSeconds": 45,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selector(spec)},
            }
        ],
        "containers": [_container(spec)],
        "volumes": [
            {"name": "home", "emptyDir": {"sizeLimit": "10Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            {
                "name": "access",
                "secret": {
                    "secretName": ACCESS_SECRET,
                    "defaultMode": 0o440,
                    "items": [{"key": "secret", "path": "secret"}, {"key": "keys.json", "path": "keys.json"}],
                },
            },
        ],
    }


def _container(spec: ServiceSpec) -> Object:
    return {
        "name": "serving",
        "image": spec.image,
        "command": ["farandole", "serve"],
        "args": ["$(MODEL_URI)", "--host=0.0.0.0", f"--port={PORT}", "--workers=1", "--poll=10"],
        "envFrom": [
            {"configMapRef": {"name": "farandole-services"}},
            {"secretRef": {"name": "farandole-credentials"}},
            {"secretRef": {"name": "farandole-storage", "optional": True}},
        ],
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "FARANDOLE_HOME", "value": _HOME},
            {"name": "FARANDOLE_ACCESS_KEYS_FILE", "value": f"{_ACCESS}/keys.json"},
            {"name": "FARANDOLE_ACCESS_SECRET_FILE", "value": f"{_ACCESS}/secret"},
            {"name": "MODEL_URI", "value": spec.model},
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # The start includes the download of the model.
        "startupProbe": _probe(READY, periodSeconds=5, failureThreshold=120, timeoutSeconds=5),
        "readinessProbe": _probe(READY, periodSeconds=5, timeoutSeconds=5),
        "livenessProbe": _probe(LIVE, periodSeconds=20, failureThreshold=6, timeoutSeconds=10),
        # The pod leaves the endpoints first; requests that still arrive are answered.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "home", "mountPath": _HOME},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "access", "mountPath": _ACCESS, "readOnly": True},
        ],
    }


def _probe(path: str, **times: int) -> Object:
    return {"httpGet": {"path": path, "port": "http"}, **times}
