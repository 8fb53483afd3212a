"""Scrape configuration of Prometheus, and the dashboard."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.support.k8s_manifests import K8S, containers, dashboard, dashboard_metrics, find, render, templates

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
    assert set(_jobs()) == {"prometheus", "pods", "containers", "gpus", "queues"}


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
