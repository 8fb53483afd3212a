"""The Java installation that Spark would start, or the reason why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import UnavailableError
from farandole.ingest.spark.java import require_java


def fake_java(home: Path, *, says: str, exit_code: int = 0) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {exit_code}\n")
    java.chmod(0o755)
    return java


def lacking(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(UnavailableError) as caught:
        require_java()
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_java_of_this_machine_is_new_enough() -> None:
    assert 'version "' in require_java()


def test_java_home_without_java_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacking(tmp_path / "jdk", monkeypatch) == (
        f"Spark needs Java 17 or newer: JAVA_HOME is {tmp_path}/jdk, which has no bin/java;"
        " install a JDK, for example `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
    )


def test_missing_java_on_the_path_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="there is no `java` on the PATH; install a JDK"):
        require_java()


@pytest.mark.parametrize("version", ["11.0.22", "1.8.0_392", "16"])
def test_old_java_is_reported_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    says = f'openjdk version "{version}" 2024-01-16'
    java = fake_java(tmp_path, says=says)
    message = lacking(tmp_path, monkeypatch)
    assert message.startswith(f"Spark needs Java 17 or newer: {java} reports {says}; install a JDK")


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.2", "25-ea"])
def test_new_java_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake_java(tmp_path, says=f'openjdk version "{version}" 2024-01-16')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert require_java() == f'openjdk version "{version}" 2024-01-16'


def test_java_that_does_not_run_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, says="", exit_code=127)
    assert "bin/java reports " in lacking(tmp_path, monkeypatch)
    (tmp_path / "bin" / "java").chmod(0o644)
    assert "bin/java reports [Errno 13] Permission denied" in lacking(tmp_path, monkeypatch)
