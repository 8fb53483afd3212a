"""Check that Spark's executors on other machines see the source files that the driver has."""

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
    session: SparkSession, files: Mapping[str, SourceFiles], sources: Mapping[str, Source]
) -> None:
    """Have executors look for a file of each source, and fetch it if they can: from an object store or an archive.

    With a local master, all executors are on this machine, and nothing is checked.

    Args:
        session: The session.
        files: The files that this machine found, by the sources' names.
        sources: The sources.

    Raises:
        UnavailableError: An executor does not see a file.
    """
    if str(session.sparkContext.master).startswith("local"):
        return
    for name, found in files.items():
        source = sources[name]
        # Spark itself reads Parquet, and does not fetch files.
        checked = found.paths if isinstance(source, ParquetSource) else found.paths[:1]
        hosts = sorted({host for path in checked for host in hosts_missing_file(session, path, (name, source))})
        if hosts:
            copy = f"the copy of {found.remote.uri(found.remote.files[0])}, " if found.remote else ""
            remedy = "FARANDOLE_HOME" if found.remote else "the sources"
            raise UnavailableError(
                f"data.master: {session.sparkContext.master}: {copy}{found.paths[0]} of data.sources.{name} is not on"
                f" {', '.join(hosts)}; put {remedy} into a directory that all executors and this machine share, or use"
                " data.master local[*]"
            )


def hosts_missing_file(session: SparkSession, path: Path, origin: tuple[str, Source] | None = None) -> list[str]:
    """Return the machines whose executors do not see a file of the size that it has on this machine.

    Args:
        session: The session.
        path: The file.
        origin: The name of its source and the source, if executors may fetch it.
    """
    size = path.stat().st_size

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            if origin is not None:
                with suppress(UserError, StorageError):  # then the file is missing, and its host is reported
                    ensure_local(*origin, path)
            is_here = path.is_file() and path.stat().st_size == size
            yield pa.record_batch({"host": pa.array([] if is_here else [socket.gethostname()], pa.string())})

    tasks = 2 * session.sparkContext.defaultParallelism  # as a rule, each executor gets one
    return sorted({row["host"] for row in session.range(0, tasks, 1, tasks).mapInArrow(look, "host string").collect()})
