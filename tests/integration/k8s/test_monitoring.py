"""Scrape configuration of Prometheus, and the dashboard."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.k8s_manifests import (
    K8S,
    containers,
    dashboard,
    dashboard_metrics,
    find,
    pod_template,
    render,
    templates,
)

MONITORING = K8S / "base" / "monitoring"


def _jobs() -> dict[str, Any]:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    return {each["job_name"]: each for each in config["scrape_configs"]}


def test_metrics_of_every_panel_are_scraped() -> None:
    """The kubelet exports thousands of metrics; only those in the filter of the scrape are kept."""
    (kept,) = [
        each["regex"]
        for each in _jobs()["containers"]["metric_relabel_configs"]
        if each.get("source_labels") == ["__name__"]
    ]
    found = dashboard_metrics()
    assert {name.split("_")[0] for name in found} == {"kueue", "container", "DCGM", "SeaweedFS"}
    assert all(re.fullmatch(kept, name) for name in found if name.startswith("container_"))
    assert set(_jobs()) == {"prometheus", "pods", "serving", "containers", "gpus", "queues"}


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in panels)
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_dashboard_uses_the_provisioned_data_source() -> None:
    (source,) = yaml.safe_load((MONITORING / "datasources.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in dashboard()["panels"]} == {source["uid"]}
    service = find(render("gpu"), "Service", "prometheus")
    assert source["url"] == f"http://prometheus:{service['spec']['ports'][0]['port']}"


def test_scraped_pods_annotate_a_port_that_they_expose() -> None:
    scraped = 0
    for _, template in templates(render("gpu")):
        wanted = template["metadata"].get("annotations", {})
        if wanted.get("prometheus.io/scrape") == "true":
            ports = {str(port["containerPort"]) for each in containers(template) for port in each["ports"]}
            assert wanted["prometheus.io/port"] in ports
            scraped += 1
    assert scraped == 1


def test_served_models_are_scraped_with_the_key_of_a_mounted_secret() -> None:
    """A wrong path, label or port would only show as a target that is down."""
    objects = render("gpu")
    job = _jobs()["serving"]
    prometheus = pod_template(find(objects, "StatefulSet", "prometheus"))
    assert prometheus is not None
    mounts = {each["name"]: each["mountPath"] for each in prometheus["spec"]["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each for each in prometheus["spec"]["volumes"]}
    assert job["authorization"]["credentials_file"] == f"{mounts['serving']}/key"
    assert volumes["serving"]["secret"]["optional"] is True
    served = pod_template(find(objects, "Deployment", "serving"))
    assert served is not None
    kept = {rule["source_labels"][0]: rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"}
    component = served["metadata"]["labels"]["app.kubernetes.io/component"]
    assert kept["__meta_kubernetes_pod_label_app_kubernetes_io_component"] == component
    (port,) = served["spec"]["containers"][0]["ports"]
    assert kept["__meta_kubernetes_pod_container_port_name"] == port["name"]
    allowed = find(objects, "NetworkPolicy", "prometheus")["spec"]["egress"][0]["ports"]
    assert {"port": port["containerPort"]} in allowed
    (rule,) = [
        each
        for each in find(objects, "NetworkPolicy", "serving")["spec"]["ingress"]
        if "namespaceSelector" in each["from"][0]
    ]
    chosen = rule["from"][0]["podSelector"]["matchLabels"]
    assert chosen.items() <= prometheus["metadata"]["labels"].items()
    assert chosen
    assert {"port": port["containerPort"]} in rule["ports"]


def test_service_monitor_selects_the_service_of_served_models(tmp_path: Path) -> None:
    component = K8S / "components" / "servicemonitor"
    monitor = next(yaml.safe_load_all((component / "servicemonitor.yaml").read_text()))
    service = find(render("gpu"), "Service", "serving")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
    assert monitor["spec"]["endpoints"][0]["port"] in {each["name"] for each in service["spec"]["ports"]}
    shutil.copytree(K8S / "base" / "serving", tmp_path / "serving")
    shutil.copytree(component, tmp_path / "servicemonitor")
    (tmp_path / "kustomization.yaml").write_text("resources: [serving]\ncomponents: [servicemonitor]\n")
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "kind: ServiceMonitor" in done.stdout
