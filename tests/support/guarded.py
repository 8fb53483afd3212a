"""A service that demands keys, for the tests of a module, which says by two names what is special about it.

`KEY_SCOPES` are the scopes of the key, and `SERVICE_OPTIONS` the options of `farandole serve`. `{access}` in an option
stands for the folder with keys and audit log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farandole.bundle import Bundle
from tests.support.access import make_key
from tests.support.served import RunningService, make_bundle, running_service


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the bundle that the service answers with."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "flights")


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with keys and audit log."""
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def key(access: Path, request: pytest.FixtureRequest) -> str:
    """Return a key that the service knows from its start."""
    return make_key(access, "web", request.module.KEY_SCOPES)


@pytest.fixture(scope="module")
def service(bundle: Bundle, access: Path, key: str, request: pytest.FixtureRequest) -> Iterator[RunningService]:
    """Run the service."""
    options = [option.format(access=access) for option in request.module.SERVICE_OPTIONS]
    with running_service(str(bundle.path), "--access-dir", str(access), *options) as running:
        yield running
