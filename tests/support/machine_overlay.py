"""Variant of the overlay `minimal` for a cluster whose node is this machine, and that pulls no images.

Its pods run the machine's programs through `hostPath` volumes. Everything else stays as in the manifests.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.k8s_manifests import Object, pod_template, render
from tests.support.postgresql import postgresql_programs
from tests.support.real_cluster import IMAGE, IMAGES

_LEFT_OUT = ("jupyterlab",)
"""Components whose programs are not on this machine."""
_OLDER = {
    ("CronJob", "batch/v1"): "batch/v1beta1",
    ("PodDisruptionBudget", "policy/v1"): "policy/v1beta1",
    ("HorizontalPodAutoscaler", "autoscaling/v2"): "autoscaling/v2beta2",
}
"""API versions of clusters before 1.21, and before 1.23."""
_ENTRYPOINT = """\
# The documented start of PostgreSQL's image.
set -euo pipefail
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    initdb --username "$POSTGRES_USER" --pwfile <(printf '%s' "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS
    printf 'host all all all scram-sha-256\\n' >>"$PGDATA/pg_hba.conf"
    pg_ctl -o "-c listen_addresses=''" -w start
    for script in /docker-entrypoint-initdb.d/*.sh; do "$script"; done
    pg_ctl -m fast -w stop
fi
exec postgres -c listen_addresses='*' "$@"
"""


def on_this_machine(kubeconfig: str, mounts: list[Object], directory: Path) -> Path:
    """Write an overlay.

    Args:
        kubeconfig: Kubeconfig of the cluster.
        mounts: Volumes of the machine, in the format of job files.
        directory: Directory of the overlay and the volumes.

    Returns:
        Folder of the overlay.
    """
    served = _served(kubeconfig)
    objects = []
    for thing in copy.deepcopy(render("minimal")):
        if thing["metadata"]["name"] in _LEFT_OUT:
            continue
        older = _OLDER.get((thing["kind"], thing["apiVersion"]))
        if older is not None and thing["apiVersion"] not in served.get(thing["kind"], ()):
            thing["apiVersion"] = older
        template = pod_template(thing)
        if template is not None:
            _use_machine(template, mounts)
        objects += [thing, *_volumes(thing, directory)]
    objects.append({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"entrypoint.sh": _ENTRYPOINT},
        "metadata": {"name": "postgresql-entrypoint", "namespace": "farandole-system"},
    })  # fmt: skip
    folder = directory / "overlay"
    folder.mkdir()
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    (folder / "kustomization.yaml").write_text("resources: [objects.yaml]\n")
    return folder


def _served(kubeconfig: str) -> dict[str, set[str]]:
    """Return the API versions that the cluster serves, by kind."""
    found: dict[str, set[str]] = {}
    for kind, version in _OLDER:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", kubeconfig, "get", "--raw", f"/apis/{version}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0 and kind in {each["kind"] for each in json.loads(done.stdout)["resources"]}:
            found.setdefault(kind, set()).add(version)
    return found


def _use_machine(template: Object, mounts: list[Object]) -> None:
    spec = template["spec"]
    (container,) = spec["containers"]
    if IMAGES is not None and container["image"].startswith("farandole/"):
        container["imagePullPolicy"] = "IfNotPresent"
        return
    if container["image"].startswith("docker.io/library/postgres"):
        # PostgreSQL needs a user with a name; in the image of these tests that is 1000.
        spec["securityContext"] |= {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
        if "command" not in container:
            container["command"] = ["bash", "/entrypoint/entrypoint.sh"]
            container["volumeMounts"].append({"name": "entrypoint", "mountPath": "/entrypoint"})
            spec["volumes"].append({"name": "entrypoint", "configMap": {"name": "postgresql-entrypoint"}})
    path = [str(Path(sys.executable).parent), str(postgresql_programs()), "/usr/local/bin", "/usr/bin", "/bin"]
    container |= {"image": IMAGE, "imagePullPolicy": "IfNotPresent"}
    container.setdefault("env", []).append({"name": "PATH", "value": os.pathsep.join(path)})
    for number, mount in enumerate(mounts):
        name = f"machine-{number}"
        spec.setdefault("volumes", []).append({"name": name, "hostPath": {"path": mount["host_path"]}})
        container.setdefault("volumeMounts", []).append(
            {"name": name, "mountPath": mount["mount_path"], "readOnly": True}
        )


def _volumes(thing: Object, directory: Path) -> list[Object]:
    """Return a volume of this machine for each claim, because the cluster creates none."""
    if thing["kind"] == "PersistentVolumeClaim":
        claims: list[tuple[str, Any]] = [(thing["metadata"]["name"], thing["spec"])]
    else:
        name = thing["metadata"]["name"]
        templates = thing.get("spec", {}).get("volumeClaimTemplates", ())
        claims = [(f"{each['metadata']['name']}-{name}-0", each["spec"]) for each in templates]
    made = []
    for name, spec in claims:
        path = directory / name
        path.mkdir()
        path.chmod(0o777)
        made.append({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"farandole-test-{name}"},
            "spec": {
                "capacity": spec["resources"]["requests"], "accessModes": spec["accessModes"],
                "hostPath": {"path": str(path)}, "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": thing["metadata"]["namespace"], "name": name},
            },
        })  # fmt: skip
    return made
