"""Encoding, separator and header of a text file with separated fields, found by looking at its beginning."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from farandole.errors import DataError
from farandole.events import format_count
from farandole.ingest.readers.byte_ranges import open_decompressed

_HEAD_BYTES = 1 << 20
_SEPARATORS = (",", ";", "\t", "|")
_LINES = 200
_SAME_WIDTH = 0.95
"""The share of the rows of a table that have the same number of fields at least."""
_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Dialect:
    """The way in which a text file is written.

    Args:
        encoding: Its encoding.
        separator: The character between two fields.
        header: Whether its first line names the columns.
        multiline: Whether a quoted field contains a line break.
        first_line: The fields of its first line.
    """

    encoding: str
    separator: str
    header: bool
    multiline: bool
    first_line: tuple[str, ...]

    @property
    def repeated(self) -> list[str]:
        """The names that several columns have."""
        counts = Counter(self.first_line) if self.header else {}
        return [name for name, count in counts.items() if name and count > 1]


def find_dialect(path: Path) -> Dialect:
    """Find out how a text file is written.

    Args:
        path: The file; one that ends in `.gz`, `.bz2` or `.zst` is decompressed.

    Raises:
        DataError: It is empty, holds bytes that are not text, or cannot be read.
    """
    try:
        with open_decompressed(path) as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({error}); write the file again") from error
    if not head.strip():
        raise DataError(f"{path}: is empty; give a file with a header and rows")
    encoding = _find_encoding(path, head)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
    if "\0" in text:
        raise DataError(f"{path}: is not text; give a CSV, Parquet or JSON file, or a folder of images")
    if len(head) == _HEAD_BYTES:  # the last line may be cut off
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
    separator, rows = _find_separator(text)
    _check_first_line(path, rows)
    return Dialect(
        encoding=encoding,
        separator=separator,
        header=_has_header(rows),
        multiline=any("\n" in field or "\r" in field for row in rows for field in row),
        first_line=tuple(rows[0]) if rows else (),
    )


def _check_first_line(path: Path, rows: list[list[str]]) -> None:
    """Check that the file begins with its table, and not with a title or comments.

    Raises:
        DataError: The first line has fewer fields than nearly all others.
    """
    widths = [len(row) for row in rows]
    width, count = Counter(widths).most_common(1)[0] if rows else (0, 0)
    above = next((number for number, found in enumerate(widths) if found == width), 0)
    if not above or widths[0] > width or count < _SAME_WIDTH * len(rows[above:]):
        return
    found = f"{path}: line 1 has {format_count(widths[0], 'field')}, and the lines below have {width}"
    if above == 1 and widths[0] == width - 1:
        raise DataError(f"{found}; write the name that is missing into the first line")
    raise DataError(f"{found}; remove {'the line' if above == 1 else f'the {above} lines'} above the table")


def _find_encoding(path: Path, head: bytes) -> str:
    """Return the encoding of a whole file: UTF-8 if every byte of it fits, else what Windows and Excel write."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    legacy = b""
    with open_decompressed(path) as stream:
        try:
            while data := stream.read(_HEAD_BYTES):
                legacy = data
                decoder.decode(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            undefined = bytes((0x81, 0x8D, 0x8F, 0x90, 0x9D))  # no characters of Windows-1252
            return "latin-1" if any(byte in legacy for byte in undefined) else "cp1252"
    return "utf-8"


def _find_separator(text: str) -> tuple[str, list[list[str]]]:
    """Return the separator that gives most lines the same number of fields, and the rows that it gives."""
    best: tuple[tuple[float, int], str, list[list[str]]] | None = None
    for separator in _SEPARATORS:
        rows = _rows(text, separator)
        widths = Counter(map(len, rows))
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        score = (count / len(rows) if rows and width > 1 else 0.0, width)
        if best is None or score > best[0] or (score == best[0] and width > 1):  # commas are also parts of numbers
            best = score, separator, rows
    assert best is not None, "there are separators to try"
    return best[1], best[2]


def _rows(text: str, separator: str) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) == _LINES:
                break
    except csv.Error:  # the reader of the preparation names the line
        pass
    return rows


def _has_header(rows: list[list[str]]) -> bool:
    """Return whether the first row names columns: it does not if it holds numbers where all other rows do."""
    if len(rows) < 2:
        return True
    first, rest = rows[0], rows[1:]
    numeric = [
        index
        for index in range(len(first))
        if all(_NUMBER.fullmatch(row[index]) for row in rest if index < len(row) and row[index].strip())
        and any(index < len(row) and row[index].strip() for row in rest)
    ]
    numbers = sum(bool(_NUMBER.fullmatch(first[index])) for index in numeric)
    return not numeric or numbers * 2 < len(numeric) or (len(set(first)) == len(first) and _are_years(first))


def _are_years(names: list[str]) -> bool:
    """Return whether the numbers among the names of columns are years, as in tables with a column for each year."""
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    return len(numbers) > 1 and all(re.fullmatch(r"\s*(1[89]|20)\d\d\s*", name) for name in numbers)
