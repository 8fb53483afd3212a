from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from farandole.ingest.spark.session import spark_session, spark_settings
from tests.support.ingest_inputs import MakeJob, Write


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


def test_executors_on_this_machine_run_the_drivers_python(spark: SparkSession, make_job: MakeJob, write: Write) -> None:
    """A notebook's Spark runs whichever `python3` comes first on the path, which need not have our packages."""
    write()
    kept = spark.sparkContext.pythonExec
    spark.sparkContext.pythonExec = "python3"
    try:
        with spark_session(make_job()) as session:
            assert session.sparkContext.pythonExec == sys.executable
        assert spark.sparkContext.pythonExec == "python3"
    finally:
        spark.sparkContext.pythonExec = kept


_NOTEBOOK = """
import farandole
from pyspark.sql import SparkSession

spark = farandole.start_spark(master="local[1]", memory="1g")
assert SparkSession.getActiveSession() is spark
assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
print(spark.range(7).count())
spark.stop()
"""


@pytest.mark.slow
def test_a_spark_to_explore_with_is_quiet_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NOTEBOOK],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
    assert list(tmp_path.glob("farandole-spark-*")) == []


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
