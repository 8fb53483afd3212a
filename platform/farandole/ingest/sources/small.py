"""The decision whether a preparation needs Spark; without it, the command line can say so before anything starts."""

from __future__ import annotations

from collections.abc import Mapping

from farandole.ingest.sources.files import SourceFiles, fingerprints
from farandole.spec import CsvSource, Data
from farandole.spec.base import Spec, non_default_fields

_SMALL_BYTES = 16 * 2**20
"""Maximum size of small sources. Beyond it, Spark's many cores begin to pay for its start."""

# The fields that a preparation without Spark follows. A job that sets another field goes to Spark, also if the field is
# added to the specification later. The fields of features, the label and encryption are not listed: the functions that
# follow them are those of Spark's workers.
_DATA = frozenset({"sources", "privacy", "auto_features", "features", "label", "split", "shards", "output"})
_SPARK_ONLY = frozenset({"partitions", "memory"})
"""Fields that are about Spark's resources, and never change the result."""
_SOURCE = frozenset(
    {
        "format",
        "path",
        "columns",
        "encoding",
        "null_values",
        "separator",
        "quote",
        "header",
        "multiline",
        "timestamp_format",
        "date_format",
    }
)
_PRIVACY = frozenset({"detect", "detect_share"})
_SPLIT = frozenset({"train", "validation", "test", "by", "column", "time", "seed"})
_SHARDS = frozenset({"size_mib", "block_mib", "encryption"})


def needs_spark(data: Data, files: Mapping[str, SourceFiles]) -> bool:
    """Return whether a dataset needs Spark: all but that of small CSV files in which nothing needs SQL.

    Args:
        data: The data part of the job.
        files: The files of its sources. Of files that are not here yet, the size in the source counts.
    """
    source = next(iter(data.sources.values()))
    if len(data.sources) != 1 or len(files) != 1 or not isinstance(source, CsvSource):
        return True
    followed: tuple[tuple[Spec, frozenset[str]], ...] = (
        (data, _DATA | _SPARK_ONLY),
        (source, _SOURCE),
        (data.privacy, _PRIVACY),
        (data.split, _SPLIT),
        (data.shards, _SHARDS),
    )
    if any(set(non_default_fields(part, *type(part).model_fields)) - fields for part, fields in followed):
        return True
    return _has_partitions(files) or _bytes(next(iter(files.values()))) > _SMALL_BYTES


def is_small(files: Mapping[str, SourceFiles]) -> bool:
    """Return whether the sources, as they are stored, are so small that starting Spark takes most of the time."""
    return sum(entry.bytes for entry in fingerprints(files)) <= _SMALL_BYTES


def _bytes(files: SourceFiles) -> int:
    if all(path.is_file() for path in files.paths):
        return sum(path.stat().st_size for path in files.paths)
    return sum(entry.bytes for entry in files.fingerprint)


def _has_partitions(files: Mapping[str, SourceFiles]) -> bool:
    """Return whether folders name columns, as in `year=2013/month=1`."""
    return any("=" in part for found in files.values() if found.base for path in found.paths for part in path.parts)
