"""The objects of a service: one source for `k8s/base/serving` and for `farandole deploy`."""

from __future__ import annotations

import pytest
import yaml

from farandole.backends.kubernetes.manifests.serving import (
    Replicas,
    ServiceSpec,
    object_name,
    parse_replicas,
    render_service,
)
from farandole.errors import SpecError
from tests.support.paths import ROOT


def test_manifests_of_the_base_are_the_rendered_objects() -> None:
    text = (ROOT / "k8s" / "base" / "serving" / "serving.yaml").read_text()
    assert list(yaml.safe_load_all(text)) == render_service(ServiceSpec("models:/flights@champion"))


def test_another_service_shares_no_object_and_no_pod() -> None:
    base = render_service(ServiceSpec("models:/flights@champion"))
    other = render_service(ServiceSpec("models:/trips/3", object_name("trips"), Replicas(1, 2), "example/serve:2"))
    names = {(each["kind"], each["metadata"]["name"]) for each in base}
    assert not names & {(each["kind"], each["metadata"]["name"]) for each in other}
    found = {each["kind"]: each for each in other}
    template = found["Deployment"]["spec"]["template"]
    assert found["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    first = next(each for each in base if each["kind"] == "Deployment")["spec"]["template"]
    assert not found["Service"]["spec"]["selector"].items() <= first["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    assert {"name": "MODEL_URI", "value": "models:/trips/3"} in container["env"]
    assert container["image"] == "example/serve:2"
    scale = found["HorizontalPodAutoscaler"]["spec"]
    assert (scale["minReplicas"], scale["maxReplicas"]) == (1, 2)


def test_pod_ends_after_its_pause_and_the_longest_request() -> None:
    """The pause, the drain, the deadline, the time for a body, and the supervisor's patience."""
    (pod,) = [
        each["spec"]["template"]["spec"]
        for each in render_service(ServiceSpec("models:/flights/1"))
        if each["kind"] == "Deployment"
    ]
    pause_s = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= pause_s + 1 + 10 + 10 + 5


@pytest.mark.parametrize(("text", "expected"), [("2:8", Replicas(2, 8)), ("3", Replicas(3, 3))])
def test_replicas_are_a_range_or_a_number(text: str, expected: Replicas) -> None:
    assert parse_replicas(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0:2", "3:2", "a:b", "1:2:3", "-1"])
def test_wrong_replicas_are_an_error(text: str) -> None:
    with pytest.raises(SpecError, match=r"--replicas: .*: write MIN:MAX"):
        parse_replicas(text)


@pytest.mark.parametrize("name", ["", "Flights", "9lives", "a.b", "ends-", "x" * 41])
def test_name_that_kubernetes_rejects_is_an_error(name: str) -> None:
    with pytest.raises(SpecError, match="--name: "):
        object_name(name)
