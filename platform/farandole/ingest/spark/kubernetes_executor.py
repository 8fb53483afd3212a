"""Entry point of a Spark executor in a pod.

Spark's driver creates the pod and describes the executor in environment variables. Spark's own images have a shell
script for this; here Python does it, so that any image with Python, Java and Farandole is sufficient.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from farandole.errors import UnavailableError
from farandole.ingest.spark.java import require_java

_CLASS = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
_ARGUMENTS = {
    "--driver-url": "SPARK_DRIVER_URL",
    "--executor-id": "SPARK_EXECUTOR_ID",
    "--cores": "SPARK_EXECUTOR_CORES",
    "--app-id": "SPARK_APPLICATION_ID",
    "--hostname": "SPARK_EXECUTOR_POD_IP",
    "--resourceProfileId": "SPARK_RESOURCE_PROFILE_ID",
    "--podName": "SPARK_EXECUTOR_POD_NAME",
}


def run_executor() -> NoReturn:
    """Replace this process with the executor.

    Raises:
        UnavailableError: Java or Spark is not installed, or no Spark driver created the pod.
    """
    require_java()
    command = executor_command(os.environ, _jars())
    os.execvp(command[0], command)


def executor_command(variables: Mapping[str, str], jars: Path) -> list[str]:
    """Return Java's command line.

    Args:
        variables: The environment, as Spark's driver set it.
        jars: The directory of Spark's own classes.

    Raises:
        UnavailableError: Spark's driver did not set this environment.
    """
    missing = [name for name in _ARGUMENTS.values() if name not in variables]
    if missing:
        raise UnavailableError(
            f"{missing[0]}: is not set; Spark's driver starts its executors, by the pod template in"
            " spark.kubernetes.executor.podTemplateFile"
        )
    home = variables.get("JAVA_HOME")
    memory = variables.get("SPARK_EXECUTOR_MEMORY", "1g")
    numbered = sorted(
        (int(name.removeprefix("SPARK_JAVA_OPT_")), value)
        for name, value in variables.items()
        if name.startswith("SPARK_JAVA_OPT_")
    )
    classes = [variables["SPARK_CLASSPATH"]] if variables.get("SPARK_CLASSPATH") else []
    arguments = [part for name, variable in _ARGUMENTS.items() for part in (name, variables[variable])]
    return [
        f"{home}/bin/java" if home else "java",
        *(value for _, value in numbered),
        "-XX:+UseParallelGC",
        f"-Xms{memory}",
        f"-Xmx{memory}",
        "-cp",
        ":".join([*classes, f"{jars}/*"]),
        _CLASS,
        *arguments,
    ]


def _jars() -> Path:
    found = importlib.util.find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        raise UnavailableError("pyspark: is not installed in this image; build the image from k8s/images/prepare")
    return Path(found.submodule_search_locations[0]) / "jars"
