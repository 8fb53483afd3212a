from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from farandole.ingest.sources.checksums import checksum_path, find_outdated_checksums


def write_checksums(path: Path) -> Path:
    """Write the checksums of a file as Hadoop does."""
    content = path.read_bytes()
    sums = [zlib.crc32(content[start : start + 512]) for start in range(0, len(content), 512)]
    found = checksum_path(path)
    found.write_bytes(b"crc\0" + struct.pack(">i", 512) + b"".join(struct.pack(">I", one) for one in sums))
    return found


@pytest.mark.parametrize("size", [0, 1, 512, 1300])
def test_checksums_of_an_unchanged_file_are_current(tmp_path: Path, size: int) -> None:
    path = tmp_path / "part-0.parquet"
    path.write_bytes(bytes(range(256)) * (size // 256 + 1))
    path.write_bytes(path.read_bytes()[:size])
    assert find_outdated_checksums([path]) == []  # there are none
    write_checksums(path)
    assert find_outdated_checksums([path]) == []


@pytest.mark.parametrize("content", [b"x" * 100, b"x" * 1299 + b"y", b"x" * 5000])
def test_checksums_of_a_rewritten_file_are_outdated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part-0.parquet"
    path.write_bytes(b"x" * 1300)
    write_checksums(path)
    path.write_bytes(content)
    assert find_outdated_checksums([path]) == [path]


def test_damage_inside_a_file_is_left_to_the_checksums(tmp_path: Path) -> None:
    path = tmp_path / "part-0.parquet"
    path.write_bytes(b"x" * 1300)
    write_checksums(path)
    path.write_bytes(b"x" * 600 + b"y" + b"x" * 699)
    assert find_outdated_checksums([path]) == []


@pytest.mark.parametrize("content", [b"", b"crc", b"abc\0\0\0\2\0abcd", b"crc\0\0\0\0\0", b"crc\0\0\0\2\0abc"])
def test_anything_but_checksums_is_outdated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part-0.parquet"
    path.write_bytes(b"x" * 100)
    checksum_path(path).write_bytes(content)
    assert find_outdated_checksums([path]) == [path]
