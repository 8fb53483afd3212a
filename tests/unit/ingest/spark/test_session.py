"""Start of Spark's Java process, and its end where the start fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark import SparkContext

from farandole.ingest.spark import jvm, session
from farandole.ingest.spark.jvm import Jvm

_SETTINGS = {"spark.driver.extraJavaOptions": "", "spark.driver.memory": "1g"}


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jvm:
    """Provide the process that is started in place of Java, with its connection file."""
    folder = tmp_path / "connection-folder"
    folder.mkdir()
    (folder / "connection").write_bytes((4711).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"me")
    found = Jvm(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE), folder)
    monkeypatch.setattr(jvm, "start_jvm", lambda *_: found)
    monkeypatch.setattr(SparkContext, "_gateway", None)
    monkeypatch.setattr(SparkContext, "_jvm", None)
    return found


@pytest.mark.parametrize("error", [RuntimeError("no gateway"), KeyboardInterrupt()])
def test_java_ends_when_it_cannot_be_connected(
    started: Jvm, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail() -> None:
        assert os.environ["PYSPARK_GATEWAY_PORT"] == "4711"
        raise error

    monkeypatch.setattr(session, "launch_gateway", fail)
    with pytest.raises(type(error)):
        session._connect_jvm(_SETTINGS)
    assert started.process.returncode is not None
    assert "PYSPARK_GATEWAY_PORT" not in os.environ
    assert SparkContext._gateway is None


def test_java_ends_when_its_gateway_answers_nothing(started: Jvm, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gateway:
        @property
        def jvm(self) -> None:
            raise ConnectionError("closed")

    monkeypatch.setattr(session, "launch_gateway", Gateway)
    with pytest.raises(ConnectionError):
        session._connect_jvm(_SETTINGS)
    assert started.process.returncode is not None
    assert SparkContext._gateway is None
