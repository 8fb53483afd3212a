"""Debian's Chromium on the page of a service, with records of what the page requests and reports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from farandole.bundle import Predictor, open_bundle
from tests.support.page_models import page_models, write_model
from tests.support.served import running_service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_TIMEOUT_MS = 60_000


@dataclass
class Opened:
    """A page of the browser.

    Args:
        page: The page.
        address: The address of the service.
        screens: The folder of screenshots.
        requests: Addresses that the page has requested.
        complaints: What the browser has reported: errors of scripts and of the policy, dialogs.
    """

    page: Any
    address: str
    screens: Path
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def goto(self, model: str | None = None) -> None:
        """Open the page, at a model."""
        self.page.goto(f"{self.address}/" + (f"?model={model}" if model else ""))
        if model:
            self.page.locator("#curl-code", has_text="curl").wait_for()

    def field(self, column: str) -> Any:
        """Return the control of a column."""
        return self.page.get_by_label(column, exact=True)

    def predict(self) -> str:
        """Press the button, wait for the prediction and its explanation, and return the sentence."""
        self.page.get_by_role("button", name="Predict", exact=True).click()
        return self.said()

    def said(self) -> str:
        """Wait for prediction and explanation, and return the sentence with the prediction."""
        self.page.locator("#answer .source").wait_for()
        self.page.locator("#explanation table").first.wait_for()
        return str(self.page.locator("#said").inner_text())

    def screenshot(self, name: str) -> None:
        """Keep a picture of the whole page."""
        path = self.screens / f"service-{name}.png"
        self.page.screenshot(path=path, full_page=True)
        assert path.stat().st_size > 10_000

    def check(self) -> None:
        """Check that the page asked only its service for anything, and that nothing failed in it."""
        assert {urlsplit(request).netloc for request in self.requests} <= {urlsplit(self.address).netloc}
        assert self.complaints == []


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
def address(bundles: dict[str, Path]) -> Iterator[str]:
    """Run a service without access control, and return its address."""
    with running_service(*map(str, bundles.values()), "--no-auth", "--workers", "1") as service:
        yield service.url


@pytest.fixture
def opened(open_page: Callable[..., Opened], address: str) -> Opened:
    return open_page(address)


@pytest.fixture(scope="session")
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
        context = chromium.new_context(
            **{"viewport": {"width": 1400, "height": 950}, "accept_downloads": True, **options}
        )
        opened = Opened(context.new_page(), address, screens)
        opened.page.set_default_timeout(_TIMEOUT_MS)
        context.on("request", lambda request: _note_request(opened, request.url))
        opened.page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        opened.page.on(
            "dialog", lambda dialog: (opened.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        opened.page.on("console", lambda message: _note_message(opened, message))
        pages.append(opened)
        return opened

    yield open_page
    for opened in pages:
        opened.check()
        opened.page.context.close()


def _note_request(opened: Opened, url: str) -> None:
    if urlsplit(url).scheme not in ("blob", "data"):
        opened.requests.append(url)


def _note_message(opened: Opened, message: Any) -> None:
    """Note errors, but not the statuses of answers, which Chromium reports as errors as well."""
    if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
        opened.complaints.append(f"{message.type}: {message.text}")
