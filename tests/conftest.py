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
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytest_plugins = [
    "tests.support.guarded",
    "tests.support.made_data",
    "tests.support.object_store",
    "tests.support.opened",
    "tests.support.queued",
]


# A busy machine is slow at times, which says nothing about the code.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For unit and integration tests: a commit always has the same result. `--hypothesis-profile=search` looks for others.
settings.register_profile("repeated", settings.get_profile("search"), derandomize=True)
settings.load_profile("search")


def pytest_configure() -> None:
    """Restore Ctrl-C, which tests send: a shell that runs pytest in the background ignores it in all children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first: one that starts last would leave the other process idle."""
    seconds: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        slow = item.get_closest_marker("slow")
        seconds[item.path] += 0.3 if slow is None else slow.kwargs.get("seconds", 15)
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session", autouse=True)
def temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a temporary directory that is removed after the run: killed processes and MLflow leave files behind."""
    tmp_path_factory.getbasetemp()  # before the change: pytest keeps what tests wrote, for a look after a failure
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
    """Set an empty `FARANDOLE_HOME` and no MLflow store: no test sees the user's, or what another test left."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "FARANDOLE_CACHE_DIR", "FARANDOLE_CACHE_GB"):
        monkeypatch.setenv(name, "")  # so that what MLflow sets in a test is undone after it
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("FARANDOLE_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Start the one Spark application of the run; a preparation uses a new session of it, as in a notebook."""
    from pyspark.sql import SparkSession

    from farandole.ingest.spark.session import spark_settings

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master("local[2]").appName("farandole tests")
    settings = spark_settings(tmp_path_factory.mktemp("spark"), memory="1g", local=True)
    # Jobs are short: optimized code is not worth the time that the JVM needs to compile it.
    settings["spark.driver.extraJavaOptions"] += " -XX:TieredStopAtLevel=1"
    settings["spark.sql.shuffle.partitions"] = "2"
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
