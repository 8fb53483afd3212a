"""Text files in pieces that tasks read side by side: byte ranges, cut at line ends, that know their line numbers."""

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
"""How much of a file is looked at in one go; a longer line is read whole."""
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_FILE_COST_BYTES = 1 << 16
"""What opening a file costs, counted as bytes, when files are dealt out to tasks: about a millisecond of reading. A
mebibyte, as Spark counts, made 79 tasks of 5,000 small images."""
_MIN_PART_BYTES, _MAX_PART_BYTES = 4 << 20, 64 << 20

Cut = Callable[[bytes], int]
"""Gives the place behind the last whole record of a buffer, 0 if there is none."""


@dataclass(frozen=True)
class ByteRange:
    """The records of a file that start between two bytes.

    Args:
        path: The file.
        start: The first byte.
        stop: The byte behind the last one; None: all that the file holds, unpacked if it is compressed.
        origin: The name of its source and the source, if other machines are to read it, which may not have the file.
    """

    path: Path
    start: int = 0
    stop: int | None = None
    origin: tuple[str, Source] | None = None


@dataclass(frozen=True)
class RecordChunk:
    """Whole records of a part.

    Args:
        part: Where they come from.
        data: Their bytes; line ends are `\\n`, `\\r\\n` or `\\r`.
        lines_before: The lines of the part before the chunk.
    """

    part: ByteRange
    data: bytes
    lines_before: int

    @property
    def is_first(self) -> bool:
        """Whether the file begins here."""
        return self.part.start == 0 and self.lines_before == 0

    def line(self, offset: int) -> int:
        """The number in the file, from 1 on, of the line at an offset in the chunk."""
        return 1 + _lines_before(self.part) + self.lines_before + count_lines(self.data[:offset])


def divide_into_tasks(paths: tuple[Path, ...], parallelism: int, *, splittable: bool) -> list[list[ByteRange]]:
    """What each task reads.

    Args:
        paths: The files.
        parallelism: How many tasks can run at once.
        splittable: Whether a line end always ends a record.
    """
    sizes = {path: path.stat().st_size for path in paths}
    parallelism = max(1, parallelism)
    total = sum(sizes.values()) + _FILE_COST_BYTES * len(paths)
    # As many as run at once, or a multiple of that: five tasks on two cores would take as long as six.
    turns = max(1, -(-total // (parallelism * _MAX_PART_BYTES)))
    number = min(parallelism * turns, max(1, -(-total // _MIN_PART_BYTES)))
    wanted = -(-total // number)
    tasks: list[list[ByteRange]] = [[]]
    filled = 0
    for path in paths:
        if not splittable or path.suffix in _COMPRESSED:
            parts = [(ByteRange(path), sizes[path])]
        else:
            room = wanted - filled - _FILE_COST_BYTES
            parts = [(ByteRange(path, start, stop), stop - start) for start, stop in _cuts(sizes[path], room, wanted)]
        for part, size in parts:
            if tasks[-1] and (part.start or filled + size > wanted):
                tasks.append([])
                filled = 0
            tasks[-1].append(part)
            filled += size + _FILE_COST_BYTES
    return tasks


def _cuts(size: int, room: int, wanted: int) -> list[tuple[int, int]]:
    """Where a file is cut that begins in a task with so much room: what fits there, and the rest in tasks of its own.
    What costs less to read than to open is no part of its own."""
    first = room if _FILE_COST_BYTES < room < size else min(size, wanted)
    bounds = [0, *range(first, size, wanted)]
    if len(bounds) > 1 and size - bounds[-1] <= _FILE_COST_BYTES:
        bounds.pop()
    return list(pairwise([*bounds, size])) if size else [(0, 0)]


def read_chunks(part: ByteRange, cut: Cut, encoding: str = "utf-8") -> Iterator[RecordChunk]:
    """The records of a part, in pieces of about `CHUNK_BYTES`.

    Args:
        part: What to read.
        cut: Where a buffer may end.
        encoding: In another one than UTF-8, what can be decoded is; what cannot becomes U+FFFD.

    Raises:
        DataError: The file cannot be read, or is not in its encoding at all.
    """
    lines = 0
    for data in _pieces(part, cut, encoding):
        yield RecordChunk(part, data, lines)
        lines += count_lines(data)


def cut_at_line_end(data: bytes) -> int:
    """The place behind the last line end."""
    place = data.rfind(b"\n") + 1
    # A carriage return at the very end may be the first half of a line end.
    return place or data.rfind(b"\r", 0, len(data) - 1) + 1


def count_lines(data: bytes) -> int:
    """The number of line ends."""
    returns = data.count(b"\r")
    return data.count(b"\n") + (returns - data.count(b"\r\n") if returns else 0)


def open_decompressed(path: Path) -> Any:
    """The file's content as a stream, unpacked by what its name ends in."""
    return pa.input_stream(str(path), compression="detect")


def needs_whole_file(encoding: str) -> bool:
    """Whether lines cannot be found before decoding: a line end takes more than its byte, or depends on what came
    before."""
    return encoding.startswith(("utf-7", "hz", "iso2022")) or "a\n".encode(encoding) != b"a\n"


def _pieces(part: ByteRange, cut: Cut, encoding: str) -> Iterator[bytes]:
    try:
        if needs_whole_file(encoding):
            with open_decompressed(part.path) as stream:
                yield _decoded(part.path, stream.read(), encoding)
            return
        rest = b""
        for data in _ranged(part) if part.stop is not None else _streamed(part.path):
            rest += data
            place = cut(rest)
            if place:
                piece, rest = rest[:place], rest[place:]
                yield _recoded(piece, encoding)
        if rest:
            yield _recoded(rest, encoding)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{part.path}: cannot be read ({error}); write the file again") from error


def _streamed(path: Path) -> Iterator[bytes]:
    with open_decompressed(path) as stream:
        while data := stream.read(CHUNK_BYTES):
            yield data


def _ranged(part: ByteRange) -> Iterator[bytes]:
    """Whole lines that start in the part."""
    assert part.stop is not None
    with part.path.open("rb") as file:
        if part.start:
            file.seek(part.start - 1)
            file.readline()
        while (left := part.stop - file.tell()) > 0:
            data = file.read(min(left, CHUNK_BYTES))
            if not data:
                return
            if file.tell() >= part.stop and not data.endswith(b"\n"):
                data += file.readline()
            yield data


def _lines_before(part: ByteRange) -> int:
    """The lines of the file before the part's first record."""
    if not part.start:
        return 0
    lines = 0
    with part.path.open("rb") as file:
        file.seek(part.start - 1)
        file.readline()
        left = file.tell()
        file.seek(0)
        last = b""
        while left and (data := file.read(min(left, CHUNK_BYTES))):
            left -= len(data)
            lines += count_lines(data) - (last == b"\r" and data.startswith(b"\n"))
            last = data[-1:]
    return lines


def _decoded(path: Path, data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not {encoding} text (byte {error.start}: {error.reason}); set `encoding` of the source"
        ) from error


def _recoded(data: bytes, encoding: str) -> bytes:
    return data if encoding == "utf-8" else data.decode(encoding, errors="replace").encode()


def mismatched_bom(path: Path, encoding: str) -> str | None:
    """The encoding that the file's byte order mark names, if it is not the one it should be in."""
    with open_decompressed(path) as stream:
        start = stream.read(4)
    marks = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    found = next((name for mark, name in marks.items() if start.startswith(mark)), None)
    return found if found and not encoding.startswith(found) else None
