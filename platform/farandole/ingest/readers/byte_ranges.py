"""Text files in byte ranges that tasks read in parallel, cut at line ends, with their line numbers."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from farandole.errors import DataError
from farandole.spec import Source

CHUNK_BYTES = 16 << 20
"""Bytes of a file that are examined at once; a longer line is read whole."""
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".zst", ".lz4")
_FILE_COST_BYTES = 1 << 16
"""The cost of opening a file, counted as bytes, when files are divided among tasks: about a millisecond of reading. One
mebibyte, as Spark counts, made 79 tasks of 5,000 small images."""
_MIN_RANGE_BYTES, _MAX_RANGE_BYTES = 4 << 20, 64 << 20

DAMAGE = "\udc80"
"""Replacement of bytes that cannot be decoded: half of a surrogate pair, which no text contains, unlike U+FFFD."""
DAMAGED_BYTES = DAMAGE.encode(errors="surrogatepass")
"""The same in a chunk; strict decoders of UTF-8 refuse it."""
MARK_DAMAGE = "farandole-mark-damage"
"""The name of the error handler that decodes such bytes."""
codecs.register_error(MARK_DAMAGE, lambda error: (DAMAGE, error.end))  # type: ignore[attr-defined]

FindCut = Callable[[bytes], int]
"""Function that returns the offset behind the last whole record of a buffer, 0 if the buffer has no whole record."""


@dataclass(frozen=True)
class ByteRange:
    """The records of a file that start between two bytes.

    Args:
        path: The file.
        start: The first byte.
        stop: The byte behind the last one; None: the whole file, decompressed if it is compressed.
        origin: The name of the source and the source, if another machine may have to fetch the file before it reads it.
    """

    path: Path
    start: int = 0
    stop: int | None = None
    origin: tuple[str, Source] | None = None


@dataclass(frozen=True)
class RecordChunk:
    """Consecutive whole records of a byte range.

    Args:
        byte_range: The range that they come from.
        data: Their bytes; line ends are LF, CRLF or CR.
        lines_before: The lines of the range before the chunk.
    """

    byte_range: ByteRange
    data: bytes
    lines_before: int

    @property
    def is_first(self) -> bool:
        """True for the first chunk of a file."""
        return self.byte_range.start == 0 and self.lines_before == 0

    def line_number(self, offset: int) -> int:
        """Return the number, from 1, of the file's line at an offset in the chunk."""
        return 1 + _lines_before(self.byte_range) + self.lines_before + count_lines(self.data[:offset])


def divide_into_tasks(paths: tuple[Path, ...], parallelism: int, *, splittable: bool) -> list[list[ByteRange]]:
    """Divide files among tasks of about equal length.

    Args:
        paths: The files.
        parallelism: The number of tasks that run at the same time.
        splittable: Whether every line end is the end of a record.

    Returns:
        The byte ranges of each task.
    """
    sizes = {path: path.stat().st_size for path in paths}
    parallelism = max(1, parallelism)
    total = sum(sizes.values()) + _FILE_COST_BYTES * len(paths)
    # A multiple of the tasks that run at once: five tasks on two cores would take as long as six.
    rounds = max(1, -(-total // (parallelism * _MAX_RANGE_BYTES)))
    num_tasks = min(parallelism * rounds, max(1, -(-total // _MIN_RANGE_BYTES)))
    wanted = -(-total // num_tasks)
    tasks: list[list[ByteRange]] = [[]]
    filled = 0
    for path in paths:
        if not splittable or path.suffix in COMPRESSED_SUFFIXES:
            ranges = [(ByteRange(path), sizes[path])]
        else:
            room = wanted - filled - _FILE_COST_BYTES
            ranges = [(ByteRange(path, start, stop), stop - start) for start, stop in _cuts(sizes[path], room, wanted)]
        for byte_range, size in ranges:
            if tasks[-1] and (byte_range.start or filled + size > wanted):
                tasks.append([])
                filled = 0
            tasks[-1].append(byte_range)
            filled += size + _FILE_COST_BYTES
    return tasks


def read_chunks(byte_range: ByteRange, find_cut: FindCut, encoding: str = "utf-8") -> Iterator[RecordChunk]:
    """Read the records of a byte range in chunks of about `CHUNK_BYTES`.

    Args:
        byte_range: The range.
        find_cut: Decides where a chunk may end.
        encoding: The encoding. Bytes that cannot be decoded become `DAMAGED_BYTES`, unless the encoding is UTF-8, whose
            bytes stay as they are: in both cases the chunk is not UTF-8 there.

    Raises:
        DataError: The file cannot be read, or is not text of its encoding at all.
    """
    lines = 0
    for data in _pieces(byte_range, find_cut, encoding):
        yield RecordChunk(byte_range, data, lines)
        lines += count_lines(data)


def cut_at_line_end(data: bytes) -> int:
    """Return the offset behind the last line end, 0 if there is none."""
    offset = data.rfind(b"\n") + 1
    # A carriage return at the very end may be the first half of a line end.
    return offset or data.rfind(b"\r", 0, len(data) - 1) + 1


def count_lines(data: bytes) -> int:
    """Count the line ends."""
    returns = data.count(b"\r")
    return data.count(b"\n") + (returns - data.count(b"\r\n") if returns else 0)


def open_decompressed(path: Path) -> Any:
    """Open a file as a stream of bytes, decompressed according to its suffix."""
    return pa.input_stream(str(path), compression="detect")


def needs_whole_file(encoding: str) -> bool:
    """Return whether text must be decoded before its lines can be found.

    A line end may take more than one byte (UTF-16), or its meaning may depend on earlier bytes (ISO-2022).
    """
    return encoding.startswith(("utf-7", "hz", "iso2022")) or "a\n".encode(encoding) != b"a\n"


def mismatched_bom(path: Path, encoding: str) -> str | None:
    """Return the encoding that a file's byte order mark names, None if that is the declared one or there is no mark."""
    with open_decompressed(path) as stream:
        start = stream.read(4)
    marks = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    found = next((name for mark, name in marks.items() if start.startswith(mark)), None)
    return found if found and not encoding.startswith(found) else None


def _cuts(size: int, room: int, wanted: int) -> list[tuple[int, int]]:
    """Cut a file: one range that fits into the room left in a task, and the rest in further tasks.

    A rest that costs less to read than to open is not cut off.
    """
    first = room if _FILE_COST_BYTES < room < size else min(size, wanted)
    bounds = [0, *range(first, size, wanted)]
    if len(bounds) > 1 and size - bounds[-1] <= _FILE_COST_BYTES:
        bounds.pop()
    return list(pairwise([*bounds, size])) if size else [(0, 0)]


def _pieces(byte_range: ByteRange, find_cut: FindCut, encoding: str) -> Iterator[bytes]:
    path = byte_range.path
    try:
        if needs_whole_file(encoding):
            with open_decompressed(path) as stream:
                yield _decode_strictly(path, stream.read(), encoding)
            return
        rest = b""
        for data in _read_range(byte_range) if byte_range.stop is not None else _read_stream(path):
            rest += data
            offset = find_cut(rest)
            if offset:
                piece, rest = rest[:offset], rest[offset:]
                yield _to_utf8(piece, encoding)
        if rest:
            yield _to_utf8(rest, encoding)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({error}); write the file again") from error


def _read_stream(path: Path) -> Iterator[bytes]:
    with open_decompressed(path) as stream:
        while data := stream.read(CHUNK_BYTES):
            yield data


def _read_range(byte_range: ByteRange) -> Iterator[bytes]:
    """Yield the whole lines that start in a range."""
    assert byte_range.stop is not None
    with byte_range.path.open("rb") as file:
        if byte_range.start:
            file.seek(byte_range.start - 1)
            file.readline()
        while (left := byte_range.stop - file.tell()) > 0:
            data = file.read(min(left, CHUNK_BYTES))
            if not data:
                return
            if file.tell() >= byte_range.stop and not data.endswith(b"\n"):
                data += file.readline()
            yield data


def _lines_before(byte_range: ByteRange) -> int:
    """Count the lines of the file before the first record of a range."""
    if not byte_range.start:
        return 0
    lines = 0
    with byte_range.path.open("rb") as file:
        file.seek(byte_range.start - 1)
        file.readline()
        left = file.tell()
        file.seek(0)
        last = b""
        while left and (data := file.read(min(left, CHUNK_BYTES))):
            left -= len(data)
            lines += count_lines(data) - (last == b"\r" and data.startswith(b"\n"))
            last = data[-1:]
    return lines


def _decode_strictly(path: Path, data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not {encoding} text (byte {error.start}: {error.reason}); set `encoding` of the source"
        ) from error


def _to_utf8(data: bytes, encoding: str) -> bytes:
    return data if encoding == "utf-8" else data.decode(encoding, MARK_DAMAGE).encode(errors="surrogatepass")
