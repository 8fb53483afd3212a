from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from inputs import MakeJob, Write
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from farandole.errors import EnvironmentLacking
from farandole.ingest.session import require_java, spark_session, spark_settings


def fake_java(home: Path, *, says: str, exit_code: int = 0) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {exit_code}\n")
    java.chmod(0o755)
    return java


def lacking(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(EnvironmentLacking) as caught:
        require_java()
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_the_java_of_this_machine_is_new_enough() -> None:
    require_java()


def test_a_java_home_without_java_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacking(tmp_path / "jdk", monkeypatch) == (
        f"Spark needs Java 17 or newer: JAVA_HOME is {tmp_path}/jdk, which holds no bin/java;"
        " install a JDK, for example `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
    )


def test_no_java_on_the_path_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLacking, match="there is no `java` on the PATH; install a JDK"):
        require_java()


@pytest.mark.parametrize("version", ["11.0.22", "1.8.0_392", "16"])
def test_a_java_that_is_too_old_is_told_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    says = f'openjdk version "{version}" 2024-01-16'
    java = fake_java(tmp_path, says=says)
    message = lacking(tmp_path, monkeypatch)
    assert message.startswith(f"Spark needs Java 17 or newer: {java} says {says}; install a JDK")


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.2", "25-ea"])
def test_a_newer_java_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake_java(tmp_path, says=f'openjdk version "{version}" 2024-01-16')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    require_java()


def test_a_java_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, says="", exit_code=127)
    assert "bin/java says " in lacking(tmp_path, monkeypatch)
    (tmp_path / "bin" / "java").chmod(0o644)
    assert "bin/java says [Errno 13] Permission denied" in lacking(tmp_path, monkeypatch)


def test_an_active_session_lends_its_spark_and_goes_on(spark: SparkSession, make_job: MakeJob, write: Write) -> None:
    write()
    spark.range(1).createOrReplaceTempView("theirs")
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        with spark_session(make_job({"partitions": 3})) as session:
            assert session.sparkContext is spark.sparkContext
            assert session.conf.get("spark.sql.session.timeZone") == "UTC"
            assert session.conf.get("spark.sql.shuffle.partitions") == "3"
            assert not session.catalog.tableExists("theirs")
        assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
        assert spark.table("theirs").count() == 1
    finally:
        spark.conf.set("spark.sql.session.timeZone", str(before))
        spark.catalog.dropTempView("theirs")


def test_failed_queries_are_not_printed_while_a_session_is_lent(
    spark: SparkSession, make_job: MakeJob, write: Write
) -> None:
    write()
    logger = logging.getLogger("SQLQueryContextLogger")
    level = logger.level
    with spark_session(make_job()) as session:
        with pytest.raises(AnalysisException):
            session.sql("SELECT * FROM nowhere")
        assert not logger.isEnabledFor(logging.ERROR)
    assert logger.level == level


def test_settings_keep_scratch_files_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    settings = spark_settings(tmp_path, memory="3g", local=True)
    assert settings["spark.driver.memory"] == "3g"
    assert settings["spark.local.dir"] == str(tmp_path)
    assert settings["spark.sql.warehouse.dir"].startswith(str(tmp_path))
    assert settings["spark.driver.host"] == "127.0.0.1"
    assert "spark.driver.host" not in spark_settings(tmp_path, memory="3g", local=False)
    monkeypatch.setenv("SPARK_LOCAL_DIRS", "/scratch")
    assert "spark.local.dir" not in spark_settings(tmp_path, memory="3g", local=True)


_OWN_SPARK = """
import json, sys
from pathlib import Path
import psutil
from farandole.ingest.prepare import prepare
from farandole.spec import load_job

prepared = prepare(load_job(sys.argv[1]))
left = [child.name() for child in psutil.Process().children(recursive=True) if child.name() == "java"]
print(json.dumps({"rows": prepared.manifest.row_counts, "left": left}))
"""


@pytest.mark.slow
def test_a_spark_of_ones_own_ends_with_the_preparation(make_job: MakeJob, write: Write, tmp_path: Path) -> None:
    write()
    make_job({"master": "local[1]", "memory": "1g"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _OWN_SPARK, str(tmp_path / "job.yaml")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert '"left": []' in done.stdout
    assert '"rows": {"train": ' in done.stdout
    assert not list(scratch.glob("farandole-spark-*"))
    assert done.stderr == ""
