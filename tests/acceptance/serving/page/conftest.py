"""Services with models of every kind, and Debian's Chromium to look at their pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farandole.bundle import Predictor, open_bundle
from tests.support.browser_page import CHROMIUM, TIMEOUT_MS, Opened
from tests.support.page_models import page_models, write_model
from tests.support.served import running_service


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the bundles of the models: a table with every kind of column, images and texts."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, model in page_models().items():
        write_model(folder / name, name, model)
    return {name: folder / name for name in page_models()}


@pytest.fixture(scope="session")
def predictors(bundles: dict[str, Path]) -> dict[str, Predictor]:
    return {name: open_bundle(path).predictor() for name, path in bundles.items()}


@pytest.fixture(scope="session")
def address(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a service without access control, and return its address."""
    home = {"FARANDOLE_HOME": str(tmp_path_factory.mktemp("home"))}
    options = ("--no-auth", "--workers", "1")
    with running_service(*map(str, bundles.values()), *options, environment=home) as service:
        yield service.url


@pytest.fixture
def opened(open_page: Callable[..., Opened], address: str) -> Opened:
    return open_page(address)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Opened]]:
    """Provide a function that opens a page of the browser; at the end each page is checked."""
    screens = Path(os.environ.get("FARANDOLE_SCREENSHOTS") or tmp_path_factory.mktemp("screens"))
    pages: list[Opened] = []

    def open_page(address: str, **options: Any) -> Opened:
        settings = {"viewport": {"width": 1400, "height": 950}, "accept_downloads": True, **options}
        opened = Opened(chromium.new_context(**settings).new_page(), address, screens)
        opened.page.set_default_timeout(TIMEOUT_MS)
        opened.record()
        pages.append(opened)
        return opened

    yield open_page
    for opened in pages:
        opened.check()
        opened.page.context.close()
