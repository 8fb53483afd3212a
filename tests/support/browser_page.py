"""A page of Debian's Chromium on a service, with records of what the page requests and reports."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT_MS = 60_000


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

    def record(self) -> None:
        """Record from now on what the page requests and reports."""
        self.page.on("request", lambda request: self._note_request(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", self._dismiss)
        self.page.on("console", self._note_message)

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note_request(self, url: str) -> None:
        if urlsplit(url).scheme not in ("blob", "data"):
            self.requests.append(url)

    def _note_message(self, message: Any) -> None:
        """Note errors, but not the statuses of answers, which Chromium reports as errors as well."""
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def check(self) -> None:
        """Check that the page asked only its service for anything, and that nothing failed in it."""
        assert {urlsplit(request).netloc for request in self.requests} <= {urlsplit(self.address).netloc}
        assert self.complaints == []
