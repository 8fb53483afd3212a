"""Checksum files that Hadoop writes beside data files, and that other programs do not renew when they rewrite these.

Beside `part-0.parquet` there is `.part-0.parquet.crc`, with a CRC-32 of each 512 bytes. Spark refuses a file that
differs from its checksums.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

_MAGIC = b"crc\0"
_HEADER_BYTES = 8
_CHECKSUM_BYTES = 4


def checksum_path(path: Path) -> Path:
    """Return where Hadoop looks for the checksums of a file."""
    return path.with_name(f".{path.name}.crc")


def find_outdated_checksums(paths: Iterable[Path]) -> list[Path]:
    """Return the files that were rewritten since their checksum files were written.

    A rewritten file nearly always has another length; and as it ends with other offsets, its last block differs. Damage
    hardly ever shows there: a file that agrees in both is left to Spark, which compares all blocks.

    Args:
        paths: Parquet files whose footers can be read.
    """
    return [path for path in paths if _is_outdated(path)]


def _is_outdated(path: Path) -> bool:
    try:
        with checksum_path(path).open("rb") as file:
            content = file.read()
    except OSError:
        return False
    if content[: len(_MAGIC)] != _MAGIC or len(content) < _HEADER_BYTES:
        return True
    (block_bytes,) = struct.unpack(">i", content[len(_MAGIC) : _HEADER_BYTES])
    num_blocks, rest = divmod(len(content) - _HEADER_BYTES, _CHECKSUM_BYTES)
    size = path.stat().st_size
    if block_bytes <= 0 or rest or num_blocks != -(-size // block_bytes):
        return True
    with path.open("rb") as file:
        file.seek(max(0, num_blocks - 1) * block_bytes)
        last = file.read()
    return bool(last) and zlib.crc32(last).to_bytes(_CHECKSUM_BYTES, "big") != content[-_CHECKSUM_BYTES:]
