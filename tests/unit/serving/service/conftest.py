"""A bundle for the tests of the service."""

from __future__ import annotations

import pytest

from farandole.bundle import Bundle
from farandole.serving.service.served import ServedModel
from tests.support.served import make_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "flights")


@pytest.fixture(scope="session")
def model(bundle: Bundle) -> ServedModel:
    return ServedModel(bundle, bundle.predictor(), "3")
