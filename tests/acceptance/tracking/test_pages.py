"""MLflow's pages, as a person sees them who opens them with `farandole ui`: in Debian's Chromium, by Playwright."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farandole.spec import Job
from tests.support.command import FARANDOLE
from tests.support.recorded_run import RecordedRun, train_in_process

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's package"),
    pytest.mark.slow(seconds=120),
    pytest.mark.timeout(900),
]

_START_TIMEOUT_S = 180
_PAGE_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Opened:
    """The UI of a store with one run, and a page of the browser."""

    recorded: RecordedRun
    address: str
    page: Any
    screens: Path

    def screenshot(self, name: str) -> None:
        """Keep a picture of the page, without MLflow's assistant, which opens beside it."""
        close = self.page.get_by_label("Close", exact=True).first
        if close.is_visible():
            close.click()
            self.page.wait_for_timeout(1000)
        path = self.screens / f"{name}.png"
        self.page.screenshot(path=path)
        assert path.stat().st_size > 10_000


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _announced(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait for the line with the address of the experiment's runs."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http\S+", log.read_text())
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def opened(
    module_home: Path, make_module_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    job = make_module_job("multiclass", name="shown")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARANDOLE_COMMAND", "farandole run job.yaml --set train.epochs=2")
        recorded = train_in_process(job, module_home, patch)
    folder = tmp_path_factory.mktemp("started-here")
    log = tmp_path_factory.mktemp("log") / "stderr"
    command = [FARANDOLE, "ui", "--port", str(_free_port()), "--no-browser"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        address = _announced(log, process)
        with playwright.sync_playwright() as tool:
            browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1500, "height": 950})
            page.set_default_timeout(_PAGE_TIMEOUT_MS)
            screens = Path(os.environ.get("FARANDOLE_SCREENSHOTS") or tmp_path_factory.mktemp("screens"))
            yield Opened(recorded, address, page, screens)
            browser.close()
        assert len(log.read_text().splitlines()) == 1, "the UI is quiet"
        assert list(folder.iterdir()) == [], "nothing is written where the UI is started"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_the_browser_opens_at_the_runs_with_the_metrics_that_matter(opened: Opened) -> None:
    page = opened.page
    page.goto(opened.address)
    page.get_by_role("link", name=opened.recorded.run.info.run_name[:15]).first.wait_for()
    assert "/experiments/" in page.url
    assert "/runs" in page.url
    page.get_by_text("test.accuracy").first.wait_for()
    opened.screenshot("runs")


def test_the_page_of_a_run_has_its_description_dataset_and_model(opened: Opened) -> None:
    page, run = opened.page, opened.recorded.run
    page.goto(f"{opened.address.partition('/runs')[0]}/runs/{run.info.run_id}")
    page.get_by_text("farandole run job.yaml --set train.epochs=2").first.wait_for()
    accuracy = opened.recorded.result["training"]["metrics"]["test"]["accuracy"]
    assert f"accuracy {accuracy:.4g}"[:14] in page.content()
    page.get_by_text("dataset (").first.wait_for()
    page.get_by_text("data.features").first.wait_for()
    assert "backend." not in page.inner_text("body")
    opened.screenshot("run")


def test_the_page_of_a_version_has_its_description_and_tags(opened: Opened) -> None:
    page = opened.page
    page.goto(f"{opened.address.partition('/#/')[0]}/#/models/shown/versions/1")
    page.get_by_text("test.accuracy").first.wait_for()
    assert "farandole run job.yaml --set train.epochs=2" in page.inner_text("body")
    opened.screenshot("version")
