"""The decision whether a preparation needs Spark; without it, the command line can say so before anything starts."""

from __future__ import annotations

from collections.abc import Mapping

from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource, Data

_MAX_BYTES = 16 * 2**20
"""Maximum size of the files. Beyond it, Spark's many cores begin to pay for its start."""


def needs_spark(data: Data, files: Mapping[str, SourceFiles]) -> bool:
    """Return whether a dataset needs Spark: all but that of small CSV files in which nothing needs SQL.

    Args:
        data: The data part of the job.
        files: The files of its sources. Of files that are not here yet, the size in the source counts.
    """
    source = next(iter(data.sources.values()))
    needs_sql = data.query is not None or data.transform is not None or bool(data.expect)
    needs_sql = needs_sql or bool(data.privacy.columns) or data.privacy.k_anonymity is not None
    if len(data.sources) != 1 or len(files) != 1 or needs_sql or data.master is not None:
        return True
    is_plain = isinstance(source, CsvSource) and source.malformed == "fail" and not _has_partitions(files)
    return not is_plain or _bytes(next(iter(files.values()))) > _MAX_BYTES


def _bytes(files: SourceFiles) -> int:
    if all(path.is_file() for path in files.paths):
        return sum(path.stat().st_size for path in files.paths)
    return sum(entry.bytes for entry in files.fingerprint)


def _has_partitions(files: Mapping[str, SourceFiles]) -> bool:
    """Return whether folders name columns, as in `year=2013/month=1`."""
    return any("=" in part for found in files.values() if found.base for path in found.paths for part in path.parts)
