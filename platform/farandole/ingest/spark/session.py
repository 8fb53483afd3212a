"""Spark sessions: one that ends with the preparation, or the one that a notebook already has."""

from __future__ import annotations

import atexit
import logging
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from py4j.java_gateway import JavaGateway
from py4j.protocol import Py4JError
from pyspark import SparkContext, StorageLevel
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession

from farandole.errors import UnavailableError
from farandole.ingest.spark import jvm
from farandole.ingest.spark.java import MIN_JAVA, require_java
from farandole.spec import Job

_STDERR = 2
"""The descriptor of standard error: a notebook replaces `sys.stderr` by an object that has none."""
_LOG_NAME = "spark.log"
_LOG_PROPERTIES = Path(__file__).with_name("log4j2.properties")

_BATCH_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
QUERY_SETTINGS = {
    # A cast that fails must fail, not become a missing value.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    # ${NAME} in a query or a column's name is not replaced: rows must not depend on the machine's variables.
    "spark.sql.variable.substitute": "false",
    # For notebooks and transforms, which may read CSV with Spark: it does not parse pruned columns, so that a row with
    # too many fields would pass unnoticed.
    "spark.sql.csv.parser.columnPruning.enabled": "false",
    # Arrow's offsets of 32 bits end at 2 GiB, and rows may be wide: packed batches, images, documents.
    _BATCH_BYTES: "64m",
}

_recorded_archive: Path | None = None
"""The archive of classes that the next Java process writes when it ends; only set-up sets it."""
_stop_timeout_s = 10.0
"""Seconds that Spark's Java process may take to end."""

_QUICK_COMPILER = " -XX:TieredStopAtLevel=1"


@contextmanager
def spark_session(job: Job, *, is_small: bool = False) -> Iterator[SparkSession]:
    """Provide a session for one preparation.

    If a session is active (in a notebook, or in a test), its Spark is used and keeps running. Otherwise one is started,
    and ended together with its JVM, which would keep its memory while the workers train.

    Args:
        job: The job.
        is_small: Whether its sources are small.

    Raises:
        UnavailableError: There is no Java, or it is too old, or Spark cannot start.
    """
    active = SparkSession.getActiveSession()
    if active is not None:
        # A session with its own views and settings on the same Spark: those of the notebook stay as they are.
        session = active.newSession()
        configure_session(session, job)
        with _errors_not_logged(), _own_python(session):
            yield session
        return
    if (jvm.java_release() or 0) < MIN_JAVA:
        require_java()  # starts Java to ask for its version
    with tempfile.TemporaryDirectory(prefix="farandole-spark-") as scratch, _errors_not_logged():
        session = _start(f"farandole {job.name}", job.data.master, job.data.memory, Path(scratch), is_small=is_small)
        configure_session(session, job)
        try:
            yield session
        finally:
            _stop(session)


def start_spark(*, master: str | None = None, memory: str = "2g") -> SparkSession:
    """Start a session to explore raw data with, configured like the one that a preparation starts.

    While it is active, `prepare` uses its Spark; `stop()` ends it.

    Args:
        master: Spark's master URL. Default: `local[*]`, all cores of this machine.
        memory: The memory of Spark's driver.

    Raises:
        UnavailableError: There is no Java, or it is too old, or Spark cannot start.
    """
    require_java()
    scratch = Path(tempfile.mkdtemp(prefix="farandole-spark-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    session = _start("farandole", master, memory, scratch)
    for key, value in QUERY_SETTINGS.items():
        session.conf.set(key, value)
    return session


@contextmanager
def cached(frame: DataFrame) -> Iterator[DataFrame]:
    """Keep the rows of a frame, in memory or on disk, for the length of the block."""
    kept = frame.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield kept
    finally:
        with suppress(PySparkException, Py4JError, OSError):  # the JVM has ended, which is reported elsewhere
            kept.unpersist()


@contextmanager
def scratch_directory(session: SparkSession) -> Iterator[Path | None]:
    """Provide a directory by which tasks pass data to each other, for the length of the block.

    Only this user may read it. The block receives None if tasks run on other machines.
    """
    if not str(session.sparkContext.master).startswith("local"):
        yield None
        return
    chosen = os.environ.get("SPARK_LOCAL_DIRS") or session.sparkContext.getConf().get("spark.local.dir", "")
    parent = (chosen or "").split(",")[0] or tempfile.gettempdir()
    Path(parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="farandole-rows-", dir=parent, ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@contextmanager
def batches_by_rows(session: SparkSession) -> Iterator[None]:
    """Let Spark limit the rows, not the bytes, of batches for Python, in queries that start in the block.

    To count bytes, it visits all columns after each row, which takes as long as writing the row.
    """
    kept = session.conf.get(_BATCH_BYTES)
    session.conf.set(_BATCH_BYTES, str(2**31 - 1))
    try:
        yield
    finally:
        session.conf.set(_BATCH_BYTES, str(kept))


def spark_settings(scratch: Path, *, memory: str, local: bool, is_small: bool = False) -> dict[str, str]:
    """Return the settings that Spark is started with; they cannot change while it runs.

    Args:
        scratch: A directory for its log and its temporary files.
        memory: The driver's memory, for example `2g`.
        local: Whether all of Spark runs on this machine.
        is_small: Whether there is little data.
    """
    # Packed batches are arrays of megabytes; the G1 collector would give each its own regions, and collect all memory.
    options = (
        f"-XX:+UseParallelGC -Dlog4j2.configurationFile={_LOG_PROPERTIES} -Dfarandole.spark.log={scratch / _LOG_NAME}"
    )
    settings: dict[str, str] = {}
    if is_small:  # the JVM's optimizing compiler would take a third of the time of such a preparation, without a gain
        options += _QUICK_COMPILER
        settings["spark.executor.extraJavaOptions"] = _QUICK_COMPILER.strip()
    settings |= {
        "spark.driver.memory": memory,
        "spark.driver.extraJavaOptions": options,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.execution.arrow.maxRecordsPerBatch": "50000",
    }
    if not os.environ.get("SPARK_LOCAL_DIRS"):
        settings["spark.local.dir"] = str(scratch)
    if local:
        # No other machine needs the address, and a host name may not resolve.
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return settings


def _start(name: str, master: str | None, memory: str, scratch: Path, *, is_small: bool = False) -> SparkSession:
    # Executors must run the very Python that the driver runs.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    master, log = master or "local[*]", scratch / _LOG_NAME
    builder = SparkSession.builder.master(master).appName(name)
    settings = spark_settings(scratch, memory=memory, local=master.startswith("local"), is_small=is_small)
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        with _stderr_to(log):
            if master.startswith("local") and jvm.is_plain_spark():
                _connect_jvm(settings)
            session = builder.getOrCreate()
    except (PySparkException, RuntimeError, OSError) as error:
        _stop_gateway()
        tail = log.read_text(errors="replace")[-4000:] if log.exists() else ""
        raise UnavailableError(
            f"data.master: Spark did not start on {master} ({_first_line(error)}); check the"
            " master's URL and data.memory",
            detail=f"{error}\n{tail}",
        ) from error
    return session


def _connect_jvm(settings: Mapping[str, str]) -> None:
    """Start Spark's Java process in place of PySpark, which finds the gateway to it then.

    The settings of the driver's process are options of its command; all others are applied by PySpark.
    """
    if SparkContext._gateway is not None:
        return
    options = shlex.split(settings["spark.driver.extraJavaOptions"])
    if _recorded_archive is not None:
        options += [f"-XX:ArchiveClassesAtExit={_recorded_archive}"]
    started = jvm.start_jvm(settings["spark.driver.memory"], options, _STDERR)
    try:
        gateway = _gateway_to(*started.connection())
        gateway.proc = started.process
        SparkContext._ensure_initialized(gateway=gateway)
    except BaseException:  # a notebook would keep a process that nothing can reach
        SparkContext._gateway = SparkContext._jvm = None
        started.stop(_stop_timeout_s)
        raise


def _gateway_to(port: int, secret: str) -> JavaGateway:
    """Return PySpark's gateway to a Java process that runs already."""
    variables = {"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret}
    os.environ.update(variables)
    try:
        return launch_gateway()  # type: ignore[no-untyped-call]
    finally:
        for name in variables:
            del os.environ[name]


@contextmanager
def recording_classes(archive: Path, timeout_s: float) -> Iterator[None]:
    """Let the Java process that starts in the block write an archive of its classes when it ends.

    Args:
        archive: The archive to write.
        timeout_s: How long the process may take to end.
    """
    global _recorded_archive, _stop_timeout_s
    kept = _recorded_archive, _stop_timeout_s
    _recorded_archive, _stop_timeout_s = archive, timeout_s
    try:
        yield
    finally:
        _recorded_archive, _stop_timeout_s = kept


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Redirect the standard error that the JVM inherits: it writes warnings about its options there."""
    sys.stderr.flush()
    kept = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _errors_not_logged() -> Iterator[None]:
    """Keep PySpark from printing failed queries to standard error; they become errors of Farandole."""
    loggers = [PySparkLogger.getLogger(name) for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _own_python(session: SparkSession) -> Iterator[None]:
    """Let executors on this machine run the driver's Python, whichever one a notebook's Spark was started with."""
    context = session.sparkContext
    kept = context.pythonExec
    if str(context.master).startswith("local"):
        context.pythonExec = sys.executable
    try:
        yield
    finally:
        context.pythonExec = kept


def configure_session(session: SparkSession, job: Job) -> None:
    """Apply the settings that affect rows, and the job's number of partitions."""
    for key, value in QUERY_SETTINGS.items():
        session.conf.set(key, value)
    if job.data.partitions is not None:
        session.conf.set("spark.sql.shuffle.partitions", str(job.data.partitions))


def _stop(session: SparkSession) -> None:
    """End the session and its JVM; `stop()` alone leaves the JVM running until Python ends."""
    with suppress(Exception):  # a JVM that has died cannot be stopped, and need not be
        session.stop()
    _stop_gateway()


def _stop_gateway() -> None:
    """End the connection to the JVM, and the JVM."""
    gateway = SparkContext._gateway
    if gateway is None:
        return
    with suppress(Exception):
        gateway.shutdown()
    process = getattr(gateway, "proc", None)
    if process is not None:
        jvm.stop_jvm(process, _stop_timeout_s)
    SparkContext._gateway = None
    SparkContext._jvm = None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
