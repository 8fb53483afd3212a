"""Estimate of the rows of files, from their first bytes or their footers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SAMPLE_BYTES = 2**18
_LINES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")


def estimate_rows(paths: Sequence[Path]) -> int | None:
    """Estimate the rows of the files of a source.

    Args:
        paths: Local files.

    Returns:
        The exact number for Parquet; for files of lines, their size divided by the mean length of the first lines;
        None for other files, such as compressed ones, and for files that cannot be read.
    """
    total = 0
    try:
        for path in paths:
            rows = _parquet_rows(path) if path.suffix.lower() in _PARQUET else _line_count(path)
            if rows is None:
                return None
            total += rows
    except (OSError, ValueError):
        return None
    return total if paths else None


def _parquet_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _line_count(path: Path) -> int | None:
    if path.suffix.lower() not in _LINES:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n") + (size == len(sample) and not sample.endswith(b"\n") and bool(sample))
    if not lines:
        return None
    counted = len(sample) if size == len(sample) else sample.rfind(b"\n") + 1
    header = path.suffix.lower() in (".csv", ".tsv", ".txt")
    return max(0, round(size / counted * lines) - header)
