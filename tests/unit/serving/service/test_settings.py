from __future__ import annotations

import pytest

from farandole.errors import UserError
from farandole.serving.service.batcher import BatchLimits
from farandole.serving.service.settings import (
    Deployment,
    RequestLimits,
    ServiceSettings,
    Variant,
    parse_split,
)


def test_settings_and_deployments_survive_json() -> None:
    settings = ServiceSettings(
        form="onnx", batches=BatchLimits(8), limits=RequestLimits(max_rows=3), access={"directory": "/a"}
    )
    assert ServiceSettings.from_json(settings.to_json()) == settings
    deployment = Deployment(4, {"flights": (Variant("champion", "models:/flights@champion", "/b", "3", 1.0),)})
    assert Deployment.from_json(deployment.to_json()) == deployment


def test_split_is_parsed() -> None:
    assert parse_split("champion=0.9, challenger=0.1") == {"champion": 0.9, "challenger": 0.1}


@pytest.mark.parametrize("text", ["", "a", "a=b", "a=0.5", "a=0.5,b=0.6", "a=0.5,a=0.5", "=1", "a=nan", "a=2,b=-1"])
def test_split_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--split"):
        parse_split(text)
