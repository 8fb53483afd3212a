from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import UnavailableError
from farandole.ingest.spark.kubernetes_executor import executor_command

VARIABLES = {
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@flights-prepare.farandole.svc:7078",
    "SPARK_EXECUTOR_ID": "1",
    "SPARK_EXECUTOR_CORES": "2",
    "SPARK_APPLICATION_ID": "spark-1",
    "SPARK_EXECUTOR_POD_IP": "10.0.0.7",
    "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_EXECUTOR_POD_NAME": "flights-exec-1",
    "SPARK_EXECUTOR_MEMORY": "600m",
    "SPARK_JAVA_OPT_10": "-Dten=10",
    "SPARK_JAVA_OPT_9": "-Dnine=9",
}


def test_executor_command_follows_the_driver_variables() -> None:
    command = executor_command(VARIABLES, Path("/venv/pyspark/jars"))
    assert command[0] == "java"
    assert command.index("-Dnine=9") < command.index("-Dten=10") < command.index("-cp")
    assert "-Xmx600m" in command
    assert command[command.index("-cp") + 1] == "/venv/pyspark/jars/*"
    assert command[command.index("--driver-url") + 1] == VARIABLES["SPARK_DRIVER_URL"]
    assert command[command.index("--podName") + 1] == "flights-exec-1"


def test_java_is_taken_from_java_home() -> None:
    assert executor_command({**VARIABLES, "JAVA_HOME": "/opt/jdk"}, Path("/jars"))[0] == "/opt/jdk/bin/java"


def test_pod_without_driver_variables_is_refused() -> None:
    with pytest.raises(UnavailableError, match="SPARK_DRIVER_URL: is not set; Spark's driver starts its executors"):
        executor_command({}, Path("/jars"))
