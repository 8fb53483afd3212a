from __future__ import annotations

import pytest

from farandole.serving.page import PUBLIC_PATHS
from farandole.serving.service.guard import route_of


@pytest.mark.parametrize(
    ("path", "route", "scope"),
    [
        ("/predict", "predict", "predict"),
        ("/explain", "explain", "explain"),
        ("/metrics", "metrics", "admin"),
        ("/v2/health/live", "live", None),
        ("/v2/health/ready", "ready", None),
        ("/v2/models/flights/infer", "infer", "predict"),
        ("/v2/models/flights/versions/3/explain", "explain", "explain"),
        ("/v2/models/flights", "metadata", "predict"),
        ("/", "page", None),
        ("/page/assets/1/client.js", "page", None),
        ("/page/model", "other", "predict"),
        ("/openapi.json", "other", "predict"),
        ("/v2/health/live/", "other", "predict"),
        ("//v2/health/live", "other", "predict"),
        ("/nothing", "other", "predict"),
        ("", "other", "predict"),
    ],
)
def test_every_path_but_health_and_the_empty_page_needs_a_scope(path: str, route: str, scope: str | None) -> None:
    assert route_of(path, PUBLIC_PATHS) == (route, scope)
