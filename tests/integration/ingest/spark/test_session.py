from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from farandole.ingest.spark.session import spark_session, spark_settings
from tests.support.ingest_inputs import MakeJob, Write


def test_active_session_shares_its_spark_and_stays_unchanged(
    spark: SparkSession, make_job: MakeJob, write: Write
) -> None:
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


def test_failed_queries_are_not_printed_while_a_session_is_shared(
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
    """A notebook's Spark runs the first `python3` on the path, which may lack Farandole."""
    write()
    kept = spark.sparkContext.pythonExec
    spark.sparkContext.pythonExec = "python3"
    try:
        with spark_session(make_job()) as session:
            assert session.sparkContext.pythonExec == sys.executable
        assert spark.sparkContext.pythonExec == "python3"
    finally:
        spark.sparkContext.pythonExec = kept
