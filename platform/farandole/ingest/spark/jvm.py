"""The Java process of a Spark on this machine, started without Spark's scripts and from an archive of its classes.

Spark's own start runs three shell scripts and one more Java process that only computes the command of the second. Here
the command is fixed, which saves that time and lets the class path be the same in every run: only then can Java map its
classes from an archive (class-data sharing) instead of reading, verifying and linking 15,000 of them again.

Imports neither pyspark nor py4j, so that the process can start before these are imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

_MAIN = "org.apache.spark.api.python.PythonGatewayServer"
_CONNECTION_VARIABLE = "_PYSPARK_DRIVER_CONN_INFO_PATH"
"""PySpark's variable with the file into which the gateway writes its port and its secret."""
_CONFIGURATION = ("SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "SPARK_DIST_CLASSPATH")
"""Variables by which a user configures another Spark or another start of it; then Spark's scripts have to run."""
_POLL_S = 0.005
_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 10.0
_OPEN_PACKAGES = (
    "java.base/java.lang",
    "java.base/java.lang.invoke",
    "java.base/java.lang.reflect",
    "java.base/java.io",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/sun.nio.cs",
    "java.base/sun.security.action",
    "java.base/sun.util.calendar",
    "java.security.jgss/sun.security.krb5",
)
"""Packages that Spark's launcher opens (`JavaModuleOptions`). Its incubating vector module is only for MLlib."""
_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-XX:-UsePerfData",
    *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPEN_PACKAGES),
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "-Dio.netty.handler.ssl.defaultEndpointVerificationAlgorithm=NONE",
)


class JvmError(RuntimeError):
    """The Java process ended before it could be reached, or cannot be reached in time."""


@dataclass(frozen=True)
class Jvm:
    """A running Java process with PySpark's gateway. It ends when its standard input does, and so with this process.

    Args:
        process: The process.
        folder: The temporary folder of its connection file.
    """

    process: subprocess.Popen[bytes]
    folder: Path

    def connection(self, timeout_s: float = _START_TIMEOUT_S) -> tuple[int, str]:
        """Wait for the gateway, and return its port and its secret.

        Args:
            timeout_s: How long to wait; a start takes seconds, on a busy machine perhaps a minute.

        Raises:
            JvmError: The process has ended, or has not sent them in time.
        """
        path = self.folder / "connection"
        deadline = time.monotonic() + timeout_s
        try:
            while not path.exists():
                if self.process.poll() is not None:
                    raise JvmError("Java process exited before sending its port number")
                if time.monotonic() > deadline:
                    raise JvmError(f"Java process has not sent its port number for {timeout_s:g} s")
                time.sleep(_POLL_S)
            content = path.read_bytes()  # PySpark renames it into place: it is whole
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        size = int.from_bytes(content[4:8], "big")
        return int.from_bytes(content[:4], "big"), content[8 : 8 + size].decode()

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """End the process by closing its input, and kill it if it does not end in time."""
        stop_jvm(self.process, timeout_s)
        shutil.rmtree(self.folder, ignore_errors=True)


def stop_jvm(process: subprocess.Popen[bytes], timeout_s: float = _STOP_TIMEOUT_S) -> None:
    """Close the input of a Java process, and kill it if it does not end in time."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_plain_spark() -> bool:
    """Return whether this machine's Spark is the one of the package pyspark, without settings of the user."""
    home = _spark_home()
    has_settings = home is None or (home / "conf").exists() or any(name in os.environ for name in _CONFIGURATION)
    return sys.platform == "linux" and not has_settings and _java() is not None


def java_release() -> int | None:
    """Return the release of Java that its installation names, without starting it; None: it names none."""
    java = _java()
    release = _release_file(java) if java is not None else None
    if release is None or not release.exists():
        return None
    found = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) if found else None


def start_jvm(memory: str, options: Sequence[str], log: IO[bytes] | int) -> Jvm:
    """Start the process; it is ready as soon as `Jvm.connection` returns.

    Args:
        memory: Its maximum heap, for example `2g`.
        options: Further options of Java.
        log: Where its output goes.

    Raises:
        OSError: It cannot be started.
    """
    folder = Path(tempfile.mkdtemp(prefix="farandole-java-"))
    archive = class_archive()
    shared = [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"] if archive is not None and archive.exists() else []
    try:
        process = subprocess.Popen(
            [*java_command(memory), *shared, "-Xlog:disable", "-Xlog:all=error:stderr", *options, _MAIN],
            env=_variables(folder / "connection"),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            preexec_fn=_ignore_interrupts,
        )
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Jvm(process, folder)


def java_command(memory: str) -> list[str]:
    """Return the part of the command that must be the same in all processes that share an archive of classes."""
    java = _java()
    assert java is not None, "is_plain_spark() was False"
    return [java, "-cp", ":".join(map(str, _jars())), f"-Xmx{memory}", *_OPTIONS]


@cache
def class_archive() -> Path | None:
    """Return the archive of Spark's classes for this Java and this Spark, which `make setup` makes; it may not exist.

    It is in the environment's directory and goes with it. Its name contains a digest of what it depends on; Java itself
    ignores an archive that does not fit.

    Returns:
        None if there is no Java or no Spark.
    """
    java = _java()
    if java is None or _spark_home() is None:
        return None
    release = _release_file(java)
    facts = [release.read_text(encoding="utf-8") if release.exists() else str(Path(java).resolve())]
    facts += [f"{path} {(stat := path.stat()).st_size} {stat.st_mtime_ns // 10**9}" for path in _jars()]
    digest = hashlib.sha256(json.dumps([facts, _OPTIONS]).encode()).hexdigest()[:16]
    return Path(sys.prefix, "share", "farandole", f"spark-classes-{digest}.jsa")


def _release_file(java: str) -> Path:
    return Path(java).resolve().parents[1] / "release"


def _variables(connection: Path) -> dict[str, str]:
    # PySpark's scripts set the other two as well: executors compare hashes of strings.
    return {**os.environ, _CONNECTION_VARIABLE: str(connection), "SPARK_CONNECT_MODE": "0", "PYTHONHASHSEED": "0"}


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def _spark_home() -> Path | None:
    found = importlib.util.find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        return None
    home = Path(next(iter(found.submodule_search_locations)))
    return home if (home / "jars").is_dir() else None


@cache
def _jars() -> tuple[Path, ...]:
    """Return the class path: Spark's jars, in the order of their names but for the one that Spark puts first."""
    home = _spark_home()
    assert home is not None
    jars = sorted((home / "jars").glob("*.jar"))
    return tuple(sorted(jars, key=lambda path: not path.name.startswith("slf4j-api-")))


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    return java if java and Path(java).exists() else None
