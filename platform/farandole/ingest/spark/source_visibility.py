"""Whether Spark's executors on other machines see the source files that the driver has."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from farandole.errors import StorageError, UnavailableError, UserError
from farandole.ingest.sources.files import SourceFiles, ensure_local
from farandole.spec import ParquetSource, Source


def check_source_visibility(
    session: SparkSession, files: dict[str, SourceFiles], sources: Mapping[str, Source]
) -> None:
    """Have executors look for a file of each source, and fetch it if they can: from an object store, out of an archive.
    With a local master, they are on this machine.

    Args:
        session: The session.
        files: The files that this machine found, by the sources' names.
        sources: The sources.

    Raises:
        EnvironmentLacking: One does not see it.
    """
    if str(session.sparkContext.master).startswith("local"):
        return
    for name, found in files.items():
        source = sources[name]
        # Parquet is read by Spark itself, which fetches nothing.
        looked_at = found.paths if isinstance(source, ParquetSource) else found.paths[:1]
        hosts = sorted({host for path in looked_at for host in hosts_missing_file(session, path, (name, source))})
        if hosts:
            what = f"the copy of {found.remote.facts(found.remote.files[0])['path']}, " if found.remote else ""
            remedy = "FARANDOLE_HOME" if found.remote else "the sources"
            raise UnavailableError(
                f"data.master: {session.sparkContext.master}: {what}{found.paths[0]} of data.sources.{name} is not on"
                f" {', '.join(hosts)}; put {remedy} into a directory that all executors and this machine share, or use"
                " data.master local[*]"
            )


def hosts_missing_file(session: SparkSession, path: Path, origin: tuple[str, Source] | None = None) -> list[str]:
    """The machines whose executors do not see a file of the size that it has here.

    Args:
        session: The session.
        path: The file.
        origin: The name of its source and the source, if executors may fetch it.
    """
    size = path.stat().st_size

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            if origin is not None:
                with suppress(UserError, StorageError):  # then it is not there, which is told
                    ensure_local(*origin, path)
            seen = path.is_file() and path.stat().st_size == size
            yield pa.record_batch({"host": pa.array([] if seen else [socket.gethostname()], pa.string())})

    tasks = 2 * session.sparkContext.defaultParallelism  # so that each executor gets one, as a rule
    return sorted({row["host"] for row in session.range(0, tasks, 1, tasks).mapInArrow(look, "host string").collect()})
