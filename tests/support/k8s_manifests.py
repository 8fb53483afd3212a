"""The objects of `k8s/`, as kubectl renders them. Needs a kubectl with kustomize 4 or newer (Debian 12's has 2)."""

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
def _missing() -> str | None:
    """Why nothing can be rendered here; None: it can."""
    if shutil.which("kubectl") is None:
        return "no kubectl here"
    told = subprocess.run(
        ["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True, check=True
    )
    version = json.loads(told.stdout).get("kustomizeVersion", "v2")
    major = int(re.sub(r"\D.*", "", version.removeprefix("v")))
    return None if major >= 4 else f"kubectl's kustomize is {version}; the overlays need 4 or newer"


@cache
def _text(folder: Path) -> str:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return done.stdout


def render(overlay: str) -> list[Object]:
    """All objects of an overlay, or of another folder below k8s/; skips the test where they cannot be rendered."""
    reason = _missing()
    if reason is not None:
        pytest.skip(reason)
    folder = K8S / "overlays" / overlay if overlay in OVERLAYS else K8S / overlay
    return list(yaml.safe_load_all(_text(folder)))


@cache
def _secrets(arguments: tuple[str, ...]) -> str:
    command = ["bash", str(K8S / "secrets.sh"), "--print", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def secrets(*arguments: str) -> list[Object]:
    """The Secrets that k8s/secrets.sh makes; the same ones for the whole test run."""
    return list(yaml.safe_load_all(_secrets(arguments)))


def find(objects: list[Object], kind: str, name: str, namespace: str | None = None) -> Object:
    """The one object of a kind by its name, which for generated ConfigMaps is that without the hash."""
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
    """An object for a message."""
    return f"{thing['kind']} {thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def pod_template(thing: Object) -> Object | None:
    """The pod template of an object that makes pods."""
    spec = thing.get("spec", {})
    if thing["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Object | None = spec.get("template") if thing["kind"] != "Pod" else thing
    return template if template is not None and "spec" in template else None


def templates(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each object that makes pods, and its template."""
    for thing in objects:
        template = pod_template(thing)
        if template is not None:
            yield thing, template


def containers(template: Object) -> Iterator[Object]:
    """All containers of a pod template."""
    yield from template["spec"].get("initContainers", ())
    yield from template["spec"]["containers"]
