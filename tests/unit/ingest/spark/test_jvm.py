"""Command of Spark's Java process, and the archive of its classes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farandole.ingest.spark import jvm
from farandole.ingest.spark.jvm import Jvm, JvmError


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide a Java and a Spark that are only files."""
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch()
    (home / "release").write_text('JAVA_VERSION="17.0.1"\n')
    jars = tmp_path / "pyspark" / "jars"
    jars.mkdir(parents=True)
    for name in ("b.jar", "a.jar", "slf4j-api-2.0.jar"):
        (jars / name).write_text(name)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setattr(jvm, "_spark_home", lambda: tmp_path / "pyspark")
    for name in jvm._CONFIGURATION:
        monkeypatch.delenv(name, raising=False)
    _forget()
    yield home
    _forget()


def _forget() -> None:
    jvm._jars.cache_clear()
    jvm.class_archive.cache_clear()


def test_class_path_has_a_fixed_order(java: Path) -> None:
    command = jvm.java_command("3g")
    names = [Path(path).name for path in command[command.index("-cp") + 1].split(":")]
    assert names == ["slf4j-api-2.0.jar", "a.jar", "b.jar"]
    assert command[0] == str(java / "bin" / "java")
    assert "-Xmx3g" in command


def test_archive_has_another_name_for_another_java_or_spark(java: Path) -> None:
    names = [jvm.class_archive()]
    (java / "release").write_text('JAVA_VERSION="17.0.2"\n')
    _forget()
    names.append(jvm.class_archive())
    (java.parent / "pyspark" / "jars" / "a.jar").write_text("a newer one")
    _forget()
    names.append(jvm.class_archive())
    assert len(set(names)) == 3
    assert all(name is not None and name.is_relative_to(sys.prefix) for name in names)


def test_spark_that_the_user_configures_is_not_plain(java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert jvm.is_plain_spark()
    monkeypatch.setenv("SPARK_CONF_DIR", "/etc/spark")
    assert not jvm.is_plain_spark()
    monkeypatch.delenv("SPARK_CONF_DIR")
    (java.parent / "pyspark" / "conf").mkdir()
    assert not jvm.is_plain_spark()


def test_release_of_java_is_known_without_starting_it(java: Path) -> None:
    assert jvm.java_release() == 17
    (java / "release").unlink()
    assert jvm.java_release() is None


def test_there_is_no_archive_without_java(java: Path) -> None:
    (java / "bin" / "java").unlink()
    assert jvm.class_archive() is None
    assert not jvm.is_plain_spark()


def _process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def test_connection_is_read_once_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "connection-folder"
    folder.mkdir()
    secret = b"secret"
    (folder / "connection").write_bytes((4711).to_bytes(4, "big") + len(secret).to_bytes(4, "big") + secret)
    started = Jvm(_process("input()"), folder)
    assert started.connection() == (4711, "secret")
    assert not folder.exists()
    started.stop()
    assert started.process.returncode is not None


def test_process_that_ends_early_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "connection-folder"
    folder.mkdir()
    with pytest.raises(JvmError, match="exited before sending"):
        Jvm(_process("pass"), folder).connection()
    assert not folder.exists()


def test_process_that_sends_nothing_is_not_waited_for_without_end(tmp_path: Path) -> None:
    folder = tmp_path / "connection-folder"
    folder.mkdir()
    started = Jvm(_process("input()"), folder)
    with pytest.raises(JvmError, match=r"has not sent its port number for 0\.05 s"):
        started.connection(timeout_s=0.05)
    assert not folder.exists()
    started.stop()


def test_process_that_ignores_the_end_of_its_input_is_killed(tmp_path: Path) -> None:
    started = Jvm(_process("import time; time.sleep(600)"), tmp_path / "none")
    started.stop(timeout_s=0.1)
    assert started.process.returncode == -9
    with pytest.raises(ProcessLookupError):
        os.kill(started.process.pid, 0)
