"""What Prometheus scrapes, and the dashboard over it."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.support.k8s_manifests import K8S, containers, find, render, templates

MONITORING = K8S / "base" / "monitoring"


def dashboard() -> dict[str, Any]:
    """The dashboard, as the ConfigMap has it."""
    data = find(render("gpu"), "ConfigMap", "grafana-dashboards")["data"]
    made: dict[str, Any] = json.loads(data["farandole.json"])
    return made


def metrics() -> set[str]:
    """The names of metrics that the dashboard asks for."""
    asked = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return {name for each in asked for name in re.findall(r"\b(?:kueue|container|DCGM|SeaweedFS)_\w+", each)}


def _jobs() -> dict[str, Any]:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    return {each["job_name"]: each for each in config["scrape_configs"]}


def test_every_panel_asks_for_what_is_scraped() -> None:
    """The kubelet's metrics are thousands: only those named in the scrape's filter are kept."""
    (kept,) = [
        each["regex"]
        for each in _jobs()["containers"]["metric_relabel_configs"]
        if each.get("source_labels") == ["__name__"]
    ]
    found = metrics()
    assert {name.split("_")[0] for name in found} == {"kueue", "container", "DCGM", "SeaweedFS"}
    assert all(re.fullmatch(kept, name) for name in found if name.startswith("container_"))
    assert set(_jobs()) == {"prometheus", "pods", "containers", "gpus", "queues"}


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((MONITORING / "datasources.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in dashboard()["panels"]} == {source["uid"]}
    service = find(render("gpu"), "Service", "prometheus")
    assert source["url"] == f"http://prometheus:{service['spec']['ports'][0]['port']}"


def test_pods_that_want_to_be_scraped_name_a_port_that_they_have() -> None:
    scraped = 0
    for _, template in templates(render("gpu")):
        wanted = template["metadata"].get("annotations", {})
        if wanted.get("prometheus.io/scrape") == "true":
            ports = {str(port["containerPort"]) for each in containers(template) for port in each["ports"]}
            assert wanted["prometheus.io/port"] in ports
            scraped += 1
    assert scraped == 1
