"""Whether Spark's executors on other machines see the source files that the driver has."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from farandole.errors import EnvironmentLacking
from farandole.ingest.files import SourceFiles


def check_reach(session: SparkSession, files: dict[str, SourceFiles]) -> None:
    """Have executors look for a file of each source. With a local master, they are on this machine.

    Raises:
        EnvironmentLacking: One does not see it.
    """
    if str(session.sparkContext.master).startswith("local"):
        return
    for name, found in files.items():
        hosts = hosts_without(session, found.paths[0])
        if hosts:
            what = f"the copy of {found.remote.facts(found.remote.files[0])['path']}, " if found.remote else ""
            remedy = "FARANDOLE_HOME" if found.remote else "the sources"
            raise EnvironmentLacking(
                f"data.master: {session.sparkContext.master}: {what}{found.paths[0]} of data.sources.{name} is not on"
                f" {', '.join(hosts)}; put {remedy} into a directory that all executors and this machine share, or use"
                " data.master local[*]"
            )


def hosts_without(session: SparkSession, path: Path) -> list[str]:
    """The machines whose executors do not see a file of the size that it has here."""
    size = path.stat().st_size

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            seen = path.is_file() and path.stat().st_size == size
            yield pa.record_batch({"host": pa.array([] if seen else [socket.gethostname()], pa.string())})

    tasks = 2 * session.sparkContext.defaultParallelism  # so that each executor gets one, as a rule
    return sorted({row["host"] for row in session.range(0, tasks, 1, tasks).mapInArrow(look, "host string").collect()})
