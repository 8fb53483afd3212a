"""Rendered overlays: valid objects whose references resolve, and pods that satisfy restricted Pod Security."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.k8s_manifests import K8S, OVERLAYS, Object, containers, find, render, secrets, shown, templates

OLDEST, NEWEST = "1.29", "1.37"
"""Versions of Kubernetes that k8s/README.md supports; the newest is the last one known to kubernetes-validate."""
_CREATED_BY_CONTROLLERS = {("farandole-system", "mlflow-tls")}
"""Secrets that controllers of the cluster create."""
_SECRETS_ARGUMENTS = {"cloud": ("--without", "storage", "--without", "database")}
"""Arguments with which k8s/deploy.sh calls k8s/secrets.sh."""
_CREATED_BY_USER = {"cloud": {("farandole-system", "postgresql-mlflow")}}
"""Secrets that users create, as the README describes."""

parametrize = pytest.mark.parametrize("overlay", OVERLAYS)


def _key(thing: Object) -> tuple[str, str, str]:
    return thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


@parametrize
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid(overlay: str, version: str) -> None:
    checked = 0
    for thing in render(overlay):
        if thing["apiVersion"].startswith("kueue."):
            continue  # see the next test
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{shown(thing)}: {list(error.path)}: {error.message}")
        checked += 1
    assert checked > 40


@pytest.mark.parametrize("overlay", ["gpu", "cloud"])
def test_every_kueue_object_is_valid(overlay: str) -> None:
    folder = os.environ.get("FARANDOLE_CRD_DIR")
    if not folder:
        pytest.skip("FARANDOLE_CRD_DIR does not name a folder with Kueue's CRDs")
    definitions = [yaml.safe_load(path.read_text()) for path in Path(folder).glob("kueue*.yaml")]
    schemas = {
        (each["spec"]["names"]["kind"], f"{each['spec']['group']}/{version['name']}"): version["schema"][
            "openAPIV3Schema"
        ]
        for each in definitions
        for version in each["spec"]["versions"]
    }
    objects = [each for each in render(overlay) if each["apiVersion"].startswith("kueue.")]
    assert len(objects) == 7
    for thing in objects:
        schema = _closed(schemas[thing["kind"], thing["apiVersion"]])
        jsonschema.validate(thing, schema | {"properties": schema["properties"] | {"metadata": {"type": "object"}}})


def _closed(schema: Any) -> Any:
    """Convert a CRD's schema to the API server's behaviour: unknown fields are errors, `int-or-string` accepts both."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if closed.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    if isinstance(closed.get("properties"), dict) and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


@parametrize
def test_objects_are_unique(overlay: str) -> None:
    keys = [_key(each) for each in render(overlay)]
    assert [key for key in keys if keys.count(key) > 1] == []


@parametrize
def test_every_object_is_in_one_of_the_two_namespaces(overlay: str) -> None:
    cluster_scoped = {
        "Namespace",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterQueue",
        "ResourceFlavor",
        "WorkloadPriorityClass",
    }
    for thing in render(overlay):
        namespace = thing["metadata"].get("namespace")
        assert namespace in ({None} if thing["kind"] in cluster_scoped else {"farandole", "farandole-system"}), shown(
            thing
        )


@parametrize
def test_overlays_contain_no_secret(overlay: str) -> None:
    assert [shown(each) for each in render(overlay) if each["kind"] == "Secret"] == []


@parametrize
def test_every_service_selects_pods_that_listen(overlay: str) -> None:
    objects = render(overlay)
    services = [each for each in objects if each["kind"] == "Service"]
    assert services
    for service in services:
        chosen = [
            template
            for thing, template in templates(objects)
            if thing["metadata"]["namespace"] == service["metadata"]["namespace"]
            and service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        ]
        assert len(chosen) == 1, f"{shown(service)}: selects {len(chosen)} workloads"
        ports = {port["name"] for each in containers(chosen[0]) for port in each.get("ports", ())}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, f"{shown(service)}: no container has the port {port['targetPort']}"


@parametrize
def test_every_reference_of_pods_resolves(overlay: str) -> None:
    objects = render(overlay)
    data = {_key(each): set(each.get("data", ())) for each in objects}
    for each in secrets(*_SECRETS_ARGUMENTS.get(overlay, ())):
        data[_key(each)] = set(each["stringData"])
    for namespace, name in _CREATED_BY_USER.get(overlay, ()):
        data["Secret", namespace, name] = {"password"}
    problems = []
    for thing, template in templates(objects):
        namespace, spec = thing["metadata"]["namespace"], template["spec"]
        account = ("ServiceAccount", namespace, spec.get("serviceAccountName", "default"))
        if account not in data:
            problems.append(f"{shown(thing)}: {account}")
        for kind, name, key in _references(thing, spec):
            if key is None and (kind, namespace, name) in data:
                continue
            if key not in data.get((kind, namespace, name), ()):
                problems.append(f"{shown(thing)}: {kind} {name}, key {key}")
        volumes = {each["name"] for each in (*spec.get("volumes", ()), *_claims(thing))}
        for each in containers(template):
            mounted = {mount["name"] for mount in each.get("volumeMounts", ())}
            if mounted - volumes:
                problems.append(f"{shown(thing)}: mounts {mounted - volumes}")
        unused = volumes - {m["name"] for each in containers(template) for m in each.get("volumeMounts", ())}
        if unused:
            problems.append(f"{shown(thing)}: volumes that no container mounts: {unused}")
    assert problems == []


def _claims(thing: Object) -> list[Object]:
    return [each["metadata"] for each in thing["spec"].get("volumeClaimTemplates", ())]


def _references(thing: Object, spec: Object) -> list[tuple[str, str, str | None]]:
    """Return kind, name and key of the objects that a pod needs to start."""
    found: list[tuple[str, str, str | None]] = []
    for each in containers({"spec": spec}):
        for entry in each.get("envFrom", ()):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in entry and not entry[field].get("optional"):
                    found.append((kind, entry[field]["name"], None))
        for entry in each.get("env", ()):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                source = entry.get("valueFrom", {}).get(field)
                if source:
                    found.append((kind, source["name"], source["key"]))
    for volume in spec.get("volumes", ()):
        if "configMap" in volume:
            source, kind, name = volume["configMap"], "ConfigMap", volume["configMap"]["name"]
        elif "secret" in volume:
            source, kind, name = volume["secret"], "Secret", volume["secret"]["secretName"]
        elif "persistentVolumeClaim" in volume:
            found.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], None))
            continue
        else:
            continue
        if source.get("optional"):
            continue
        found += [(kind, name, item["key"]) for item in source.get("items", ())] or [(kind, name, None)]
    return found


@parametrize
def test_every_other_reference_resolves(overlay: str) -> None:
    objects = render(overlay)
    keys = {_key(each) for each in objects}
    labels = [
        (thing["metadata"]["namespace"], template["metadata"]["labels"]) for thing, template in templates(objects)
    ]
    checked = 0
    for thing in objects:
        kind, spec, namespace = thing["kind"], thing.get("spec", {}), thing["metadata"].get("namespace", "")
        if kind in ("RoleBinding", "ClusterRoleBinding"):
            role = thing["roleRef"]
            assert (role["kind"], namespace, role["name"]) in keys, shown(thing)
            for subject in (each for each in thing["subjects"] if each["kind"] == "ServiceAccount"):
                assert ("ServiceAccount", subject["namespace"], subject["name"]) in keys, shown(thing)
        elif kind == "StatefulSet":
            service = find(objects, "Service", spec["serviceName"], namespace)
            assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items(), shown(thing)
        elif kind == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    backend = path["backend"]["service"]
                    ports = find(objects, "Service", backend["name"], namespace)["spec"]["ports"]
                    assert backend["port"]["name"] in {port["name"] for port in ports}, shown(thing)
            assert all((namespace, tls["secretName"]) in _CREATED_BY_CONTROLLERS for tls in spec["tls"])
        elif kind == "LocalQueue":
            assert ("ClusterQueue", "", spec["clusterQueue"]) in keys
        elif kind == "ClusterQueue":
            flavors = {flavor["name"] for group in spec["resourceGroups"] for flavor in group["flavors"]}
            assert {("ResourceFlavor", "", name) for name in flavors} <= keys
        elif kind == "PodDisruptionBudget":
            wanted = spec["selector"]["matchLabels"].items()
            assert any(found == namespace and wanted <= has.items() for found, has in labels), shown(thing)
        elif kind == "HorizontalPodAutoscaler":
            target = find(objects, spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"], namespace)
            assert "replicas" not in target["spec"], f"{shown(thing)}: a deployment would reset what it has scaled"
        else:
            continue
        checked += 1
    assert checked >= 5


@parametrize
def test_network_policies_select_existing_pods(overlay: str) -> None:
    """A policy with a misspelled selector silently has no effect."""
    objects = render(overlay)
    names = {
        (thing["metadata"]["namespace"], template["metadata"]["labels"]["app.kubernetes.io/name"])
        for thing, template in templates(objects)
    }
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    for namespace in ("farandole", "farandole-system"):
        denied = find(policies, "NetworkPolicy", "deny-all", namespace)["spec"]
        assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies:
        own = policy["metadata"]["namespace"]
        chosen = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name")
        assert chosen is None or (own, chosen) in names, shown(policy)
    ports = {
        port["containerPort"]
        for _, template in templates(objects)
        for c in containers(template)
        for port in c.get("ports", ())
    }
    for policy in policies:
        for rule in policy["spec"].get("ingress", ()):
            assert {port["port"] for port in rule.get("ports", ())} <= ports, shown(policy)


def test_network_policies_allow_only_the_intended_peers() -> None:
    """Only MLflow and the backup reach PostgreSQL; jobs reach only MLflow and S3."""
    policies = [each for each in render("gpu") if each["kind"] == "NetworkPolicy"]
    allowed_peers = {
        policy["metadata"]["name"]: {
            next(iter(peer.get("podSelector", peer.get("namespaceSelector"))["matchLabels"].values()))
            for rule in policy["spec"].get("ingress", ())
            for peer in rule["from"]
        }
        for policy in policies
        if policy["metadata"]["namespace"] == "farandole-system"
    }
    assert allowed_peers["postgresql"] == {"mlflow", "mlflow-upgrade", "postgresql-backup"}
    assert allowed_peers["prometheus"] == {"grafana"}
    assert {name for name, peers in allowed_peers.items() if "farandole" in peers} == {"mlflow", "seaweedfs"}


@parametrize
def test_every_container_has_resources_probes_and_a_security_context(overlay: str) -> None:
    """Checks the rules of `restricted` Pod Security, and a read-only root file system."""
    seen = 0
    for thing, template in templates(render(overlay)):
        spec = template["spec"]
        ends = thing["kind"] in ("Job", "CronJob")
        assert spec["securityContext"]["runAsNonRoot"] is True, shown(thing)
        assert spec["securityContext"]["runAsUser"] > 0, shown(thing)
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, shown(thing)
        assert "automountServiceAccountToken" in spec, f"{shown(thing)}: does not set automountServiceAccountToken"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), shown(thing)
        assert not any("hostPath" in volume for volume in spec.get("volumes", ())), shown(thing)
        assert all("sizeLimit" in v["emptyDir"] for v in spec.get("volumes", ()) if "emptyDir" in v), shown(thing)
        for each in containers(template):
            container = f"{shown(thing)}, container {each['name']}"
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container
            assert set(each["resources"]["requests"]) == {"cpu", "memory"}, container
            assert "memory" in each["resources"]["limits"], container
            if not ends:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(each), container
                named = {port["name"] for port in each["ports"]}
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    assert each[probe].get("httpGet", {"port": next(iter(named))})["port"] in named, container
            assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", each["image"]), f"{container}: {each['image']}: pin a version"
            assert not each["image"].endswith(":latest"), container
            seen += 1
    assert seen >= 6


@parametrize
def test_namespaces_enforce_restricted_pod_security(overlay: str) -> None:
    spaces = [each for each in render(overlay) if each["kind"] == "Namespace"]
    assert {each["metadata"]["name"] for each in spaces} == {"farandole", "farandole-system"}
    for each in spaces:
        assert each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@parametrize
def test_limit_range_covers_the_quota(overlay: str) -> None:
    """A quota on CPUs rejects pods without a request; the limit range sets a default."""
    objects = render(overlay)
    quota = find(objects, "ResourceQuota", "jobs", "farandole")["spec"]["hard"]
    (limits,) = find(objects, "LimitRange", "jobs", "farandole")["spec"]["limits"]
    assert {name.removeprefix("requests.") for name in quota} & {"cpu", "memory"} <= set(limits["defaultRequest"])


def test_every_component_renders_alone() -> None:
    folders = sorted(path for path in (K8S / "base").iterdir() if path.is_dir())
    assert [path.name for path in folders if not render(f"base/{path.name}")] == []
    listed = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in folders]


def test_cloud_overlay_contains_no_managed_service() -> None:
    names = {(each["kind"], each["metadata"]["name"]) for each in render("cloud")}
    assert not {name for _, name in names} & {"seaweedfs", "seaweedfs-buckets", "postgresql", "postgresql-backup"}
    mlflow = find(render("cloud"), "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]
    assert not {each["name"] for each in mlflow["env"]} & {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


@parametrize
def test_mlflow_allows_every_host_name_in_use(overlay: str) -> None:
    """The option replaces the default list and includes the port."""
    objects = render(overlay)
    args = find(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]["args"]
    (allowed,) = [each.partition("=")[2].split(",") for each in args if each.startswith("--allowed-hosts=")]
    assert "*" not in allowed
    used = find(objects, "ConfigMap", "farandole-services")["data"]["MLFLOW_TRACKING_URI"]
    assert used.removeprefix("http://") in allowed
    for thing in (each for each in objects if each["kind"] == "Ingress"):
        assert {rule["host"] for rule in thing["spec"]["rules"]} <= set(allowed)


def test_executors_of_notebooks_satisfy_restricted_pod_security() -> None:
    """Their template is data of a ConfigMap, which no other test checks."""
    objects = render("minimal")
    data = find(objects, "ConfigMap", "spark-notebook")["data"]
    settings = dict(line.split() for line in data["spark-defaults.conf"].splitlines() if line and line[0] != "#")
    pod = yaml.safe_load(data["executor.yaml"])
    kubernetes_validate.validate(pod | {"spec": pod["spec"]}, NEWEST, strict=False)
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert settings["spark.kubernetes.executor.podTemplateContainerName"] == container["name"]
    notebook = find(objects, "Deployment", "jupyterlab")["spec"]["template"]
    mounts = {mount["name"]: mount["mountPath"] for mount in notebook["spec"]["containers"][0]["volumeMounts"]}
    assert settings["spark.kubernetes.executor.podTemplateFile"] == f"{mounts['spark']}/executor.yaml"
    assert settings["spark.kubernetes.namespace"] == "farandole"
    # The network policy `jobs` allows traffic between pods with this label.
    label = {"app.kubernetes.io/managed-by": "farandole"}
    assert label.items() <= pod["metadata"]["labels"].items()
    assert label.items() <= notebook["metadata"]["labels"].items()
    assert ("ServiceAccount", "farandole", spec["serviceAccountName"]) in {_key(each) for each in objects}


def test_overlay_of_the_readme_sets_the_model_and_nothing_else(tmp_path: Path) -> None:
    text = (K8S / "README.md").read_text()
    (patch,) = re.findall(r"```yaml\n(patches:\n.*?)```", text, re.DOTALL)
    shutil.copytree(K8S / "base" / "serving", tmp_path / "serving")
    (tmp_path / "kustomization.yaml").write_text(f"resources: [serving]\n{patch}")
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    changed = list(yaml.safe_load_all(done.stdout))
    (container,) = find(changed, "Deployment", "serving")["spec"]["template"]["spec"]["containers"]
    (model,) = [each for each in container["env"] if each["name"] == "MODEL_URI"]
    assert model["value"] == "models:/trips@champion"
    model["value"] = "models:/flights@champion"

    def in_order(objects: list[Object]) -> list[Object]:
        for each in objects:  # kustomize puts a changed variable first
            if each["kind"] == "Deployment":
                each["spec"]["template"]["spec"]["containers"][0]["env"].sort(key=lambda entry: entry["name"])
        return sorted(objects, key=_key)

    assert in_order(changed) == in_order(render("base/serving"))
