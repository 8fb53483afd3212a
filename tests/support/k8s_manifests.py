"""Objects of `k8s/`, rendered by kubectl. Needs a kubectl with kustomize 4 or newer (Debian 12's has 2)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

K8S = ROOT / "k8s"
OVERLAYS = ("minimal", "gpu", "cloud")
Object = dict[str, Any]


@cache
def _missing_requirement() -> str | None:
    """Return why kubectl cannot render the overlays here, or None if it can."""
    if shutil.which("kubectl") is None:
        return "kubectl not found"
    output = subprocess.run(
        ["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True, check=True
    )
    version = json.loads(output.stdout).get("kustomizeVersion", "v2")
    major = int(re.sub(r"\D.*", "", version.removeprefix("v")))
    return None if major >= 4 else f"kubectl's kustomize is {version}; the overlays need 4 or newer"


@cache
def _text(folder: Path) -> str:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return done.stdout


def render(overlay: str) -> list[Object]:
    """Render the objects of an overlay, or of another folder below k8s/; skips the test where kubectl cannot do it."""
    reason = _missing_requirement()
    if reason is not None:
        pytest.skip(reason)
    folder = K8S / "overlays" / overlay if overlay in OVERLAYS else K8S / overlay
    return list(yaml.safe_load_all(_text(folder)))


@cache
def _secrets(arguments: tuple[str, ...]) -> str:
    command = ["bash", str(K8S / "secrets.sh"), "--print", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def secrets(*arguments: str) -> list[Object]:
    """Return the Secrets of k8s/secrets.sh; the same ones for the whole test run."""
    return list(yaml.safe_load_all(_secrets(arguments)))


def find(objects: list[Object], kind: str, name: str, namespace: str | None = None) -> Object:
    """Find the only object of a kind and name; for generated ConfigMaps, the name without the hash."""
    found = [
        each
        for each in objects
        if each["kind"] == kind
        and re.fullmatch(rf"{re.escape(name)}(-[a-z0-9]{{10}})?", each["metadata"]["name"])
        and namespace in (None, each["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def shown(thing: Object) -> str:
    """Describe an object for a message."""
    return f"{thing['kind']} {thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def pod_template(thing: Object) -> Object | None:
    """Return the pod template of an object that creates pods, or None."""
    spec = thing.get("spec", {})
    if thing["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Object | None = spec.get("template") if thing["kind"] != "Pod" else thing
    return template if template is not None and "spec" in template else None


def templates(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Yield each object that creates pods, and its template."""
    for thing in objects:
        template = pod_template(thing)
        if template is not None:
            yield thing, template


def containers(template: Object) -> Iterator[Object]:
    """Yield all containers of a pod template."""
    yield from template["spec"].get("initContainers", ())
    yield from template["spec"]["containers"]


def dashboard() -> dict[str, Any]:
    """Return the dashboard from its ConfigMap."""
    data = find(render("gpu"), "ConfigMap", "grafana-dashboards")["data"]
    parsed: dict[str, Any] = json.loads(data["farandole.json"])
    return parsed


def dashboard_metrics() -> set[str]:
    """Return the names of the metrics that the dashboard queries."""
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return {name for query in queries for name in re.findall(r"\b(?:kueue|container|DCGM|SeaweedFS)_\w+", query)}
