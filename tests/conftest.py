"""Fixtures of all tests: an empty home for each test and one Spark session for the whole run."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytest_plugins = [
    "tests.support.made_data",
    "tests.support.object_store",
    "tests.support.opened",
    "tests.support.queued",
]


def pytest_configure() -> None:
    """A shell that starts the run in the background has Ctrl-C ignored in all that comes of it, which tests press."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first: one that begins last would leave one of two processes idle."""
    seconds: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        slow = item.get_closest_marker("slow")
        seconds[item.path] += 0.3 if slow is None else slow.kwargs.get("seconds", 15)
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session", autouse=True)
def temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A directory for temporary files that goes with the run: processes that tests kill, and MLflow, leave theirs."""
    tmp_path_factory.getbasetemp()  # first: pytest keeps what tests wrote, to be looked at after a failure
    with (
        tempfile.TemporaryDirectory(prefix="farandole-tests-", ignore_cleanup_errors=True) as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(directory).chmod(0o711)  # PostgreSQL runs as another user
        patch.setenv("TMPDIR", directory)
        patch.setattr(tempfile, "tempdir", directory)
        yield


@pytest.fixture(autouse=True)
def farandole_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `FARANDOLE_HOME` and no other MLflow store: no test sees the user's own, or what another test left."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "FARANDOLE_CACHE_DIR", "FARANDOLE_CACHE_GB"):
        monkeypatch.setenv(name, "")  # so that what MLflow sets by itself in a test is taken back after it
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("FARANDOLE_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark of the test run; a preparation takes a new session of it, as it does in a notebook."""
    from pyspark.sql import SparkSession

    from farandole.ingest.spark.session import spark_settings

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master("local[2]").appName("farandole tests")
    settings = spark_settings(tmp_path_factory.mktemp("spark"), memory="1g", local=True)
    # Short jobs on little data: better code is not worth the time that the JVM takes to make it.
    settings["spark.driver.extraJavaOptions"] += " -XX:TieredStopAtLevel=1"
    settings["spark.sql.shuffle.partitions"] = "2"
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
