"""JSON files that are one array of objects, read as one object per line while the file streams by.

The structure of a block of bytes is found by a few numpy operations: which quotes are escaped, which brackets and
commas are outside of texts, and how deep they are. Every byte keeps its offset, so that lines can be counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.ingest.readers import byte_ranges
from farandole.ingest.readers.byte_ranges import (
    ByteRange,
    RecordChunk,
    count_lines,
    cut_at_line_end,
    open_decompressed,
    read_chunks,
)

_MARK = b"\xef\xbb\xbf"
_SNIFFED_BYTES = 1 << 20
"""Bytes that are read to decide whether a file is an array; a line may be longer."""
_BEGIN = re.compile(rb"\A(?:\xef\xbb\xbf)?[ \t\r\n]*\[")
_BLANK = re.compile(rb"[ \t]*")
_MISSING = re.compile(rb"(?:\A|\n)[ \t]*\n")
"""An element of nothing but spaces."""
_DEPTH = np.zeros(256, np.int8)
_DEPTH[[ord("["), ord("{")]] = 1
_DEPTH[[ord("]"), ord("}")]] = -1
_STRUCTURE = _DEPTH != 0
_STRUCTURE[ord(",")] = True
_QUOTE, _BACKSLASH, _COMMA, _LINE_FEED, _RETURN = b'"\\,\n\r'


@dataclass(frozen=True)
class ArrayChunk(RecordChunk):
    """Consecutive whole elements of an array, one on each line of `data`.

    Args:
        line_ends: The offsets in `data` that are line ends in the file, int64, sorted.
    """

    line_ends: np.ndarray

    def line_number(self, offset: int) -> int:
        """Return the number, from 1, of the file's line in which the element at an offset begins."""
        match = _BLANK.match(self.data, offset)
        assert match is not None, "no space is a match too"
        return 1 + self.lines_before + int(np.searchsorted(self.line_ends, match.end()))


def read_json_chunks(byte_range: ByteRange) -> Iterator[RecordChunk]:
    """Read the records of a byte range of JSON; those of an array all belong to the range at its start.

    Raises:
        DataError: The file cannot be read, or its array is broken.
    """
    if not is_array(byte_range.path):
        yield from read_chunks(byte_range, cut_at_line_end)
    elif not byte_range.start:
        try:
            yield from _read_array(byte_range)
        except (OSError, EOFError, pa.ArrowException) as error:
            raise DataError(f"{byte_range.path}: cannot be read ({error}); write the file again") from error


def is_array(path: Path) -> bool:
    """Return whether a file is one JSON array, and not lines of which the first one is an array.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open_decompressed(path) as stream:
            data = stream.read(_SNIFFED_BYTES)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({error}); write the file again") from error
    begin = _BEGIN.match(data)
    if begin is None:
        return False
    _, stop = _find_structure(data[begin.end() :])
    return stop is None or not data[begin.end() + stop + 1 :].strip() or b"\n" in data[begin.end() :][:stop]


def _read_array(byte_range: ByteRange) -> Iterator[RecordChunk]:
    """Yield the elements of the array that a file is."""
    path, lines, is_first = byte_range.path, 0, True
    with open_decompressed(path) as stream:
        rest = stream.read(max(byte_ranges.CHUNK_BYTES, _SNIFFED_BYTES))
        begin = _BEGIN.match(rest)
        assert begin is not None, "the caller has looked"
        lines, rest = count_lines(begin[0]), rest[begin.end() :]
        while True:
            cuts, stop = _find_structure(rest)
            if stop is not None and rest[stop : stop + 1] != b"]":
                line = 1 + lines + count_lines(rest[:stop])
                raise DataError(
                    f"{path}: line {line}: a `}}` where the array must continue or end; write the file again"
                )
            end = stop if stop is not None else int(cuts[-1]) if len(cuts) else None
            if end is not None:
                chunk = _chunk(byte_range, rest[: end + 1], cuts[cuts <= end], lines)
                is_empty = is_first and stop is not None and not chunk.data.strip()
                if not is_empty:
                    _check_elements(path, chunk)
                    yield chunk
                lines, rest, is_first = lines + count_lines(rest[: end + 1]), rest[end + 1 :], False
            if stop is not None:
                _check_end(path, rest, stream, lines)
                return
            data = stream.read(byte_ranges.CHUNK_BYTES)
            if not data:
                raise DataError(
                    f"{path}: line {1 + lines + count_lines(rest)}: the file ends inside of its array, the last `]` is"
                    " missing; write the file again"
                )
            rest += data


def _find_structure(data: bytes) -> tuple[np.ndarray, int | None]:
    """Find the commas between the elements of an array whose first element is at the start of the data.

    Returns:
        The offsets of the commas; and that of the bracket that ends the array, None if the data end before.
    """
    chars = np.frombuffer(data, np.uint8)
    offsets = np.flatnonzero(_STRUCTURE[chars])
    offsets = offsets[np.searchsorted(_quotes(chars), offsets) % 2 == 0]
    depth = 1 + np.cumsum(_DEPTH[chars[offsets]], dtype=np.int64)
    ends = np.flatnonzero(depth == 0)
    stop = int(offsets[ends[0]]) if len(ends) else None
    commas = offsets[(depth == 1) & (chars[offsets] == _COMMA)]
    return commas if stop is None else commas[commas < stop], stop


def _quotes(chars: np.ndarray) -> np.ndarray:
    """Return the offsets of the quotes that begin or end a text: those behind an even number of backslashes."""
    quotes = np.flatnonzero(chars == _QUOTE)
    escaped = np.zeros(len(quotes), bool)
    behind = np.flatnonzero(quotes > 0)
    distance = 1
    while len(behind):
        behind = behind[quotes[behind] >= distance]
        behind = behind[chars[quotes[behind] - distance] == _BACKSLASH]
        escaped[behind] = distance % 2 == 1
        distance += 1
    return quotes[~escaped]


def _chunk(byte_range: ByteRange, data: bytes, cuts: np.ndarray, lines: int) -> ArrayChunk:
    """Return elements as lines: line ends become spaces, and the commas between elements become line ends.

    A line end inside of a text, which JSON forbids, becomes NUL, for which the element is reported as malformed.
    """
    chars = np.frombuffer(data, np.uint8).copy()
    ends = np.flatnonzero((chars == _LINE_FEED) | (chars == _RETURN))
    is_end = (chars[ends] == _LINE_FEED) | (np.append(chars, 0)[ends + 1] != _LINE_FEED)
    inside = np.searchsorted(_quotes(chars), ends) % 2 == 1
    chars[ends] = np.where(inside, 0, ord(" "))
    chars[cuts] = _LINE_FEED
    chars[-1] = _LINE_FEED  # the last comma, or the bracket at the end
    return ArrayChunk(byte_range, chars.tobytes(), lines, ends[is_end])


def _check_elements(path: Path, chunk: ArrayChunk) -> None:
    missing = _MISSING.search(chunk.data)
    if missing:
        line = chunk.line_number(missing.end() - 1)
        raise DataError(f"{path}: line {line}: the array has a comma and no object beside it; remove the comma")


def _check_end(path: Path, rest: bytes, stream: Any, lines: int) -> None:
    """Check that nothing follows the array."""
    while True:
        text = rest.lstrip()
        if text:
            lines += count_lines(rest[: len(rest) - len(text)])
            raise DataError(
                f"{path}: line {1 + lines}: text follows the end of the array; a file is either one array of objects,"
                " or one object on each line"
            )
        lines += count_lines(rest)
        rest = stream.read(byte_ranges.CHUNK_BYTES)
        if not rest:
            return
